"""The table [channels.telegram]."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path

import pytest

from channels.telegram import TelegramChannel, create, read_settings
from nanohost.channel_api import ChannelContext, ChannelError
from nanohost.channels.header import read_header
from nanohost.testing.simulators.telegram import TOKEN

WRONG: dict[str, tuple[Mapping[str, object], str]] = {
    "nothing": ({}, "token: wanted is what @BotFather gave you"),
    "no token": ({"token": "hello there, I am a secret"}, "token: wanted is what @BotFather gave you"),
    "a number": ({"token": 5}, "token: wanted is what @BotFather gave you"),
    "no address": ({"token": TOKEN, "base_url": "api.telegram.org"}, "base_url: write an address"),
    "no such setting": ({"token": TOKEN, "tokne": "x"}, "tokne: there is no such setting"),
    "two": ({"base_url": "x", "base_file_url": "y"}, "token: .*; base_url: .*; base_file_url: "),
}


@pytest.mark.parametrize(("table", "said"), WRONG.values(), ids=WRONG.keys())
def test_an_invalid_setting_is_reported_with_a_remedy_and_without_its_value(
    table: Mapping[str, object], said: str
) -> None:
    with pytest.raises(ChannelError, match=said) as raised:
        read_settings(table)
    assert str(raised.value).startswith("[channels.telegram]")
    assert "secret" not in str(raised.value)


def test_a_token_is_the_only_required_setting(tmp_path: Path) -> None:
    context = ChannelContext(instance="default", settings={"token": TOKEN}, runtime_dir=tmp_path, home=tmp_path)
    assert isinstance(create(context), TelegramChannel)
    assert read_settings({"token": TOKEN}).base_url == "https://api.telegram.org"
    assert TOKEN not in repr(read_settings({"token": TOKEN}))


def test_the_header_declares_the_token_as_a_secret() -> None:
    header = read_header(Path(inspect.getfile(TelegramChannel)))
    assert header.name == "telegram"
    assert [(setting.name, setting.secret) for setting in header.settings] == [("token", True)]


def test_settings_of_another_instance_are_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match=r"\[channels\.telegram\.work\] token"):
        create(ChannelContext(instance="work", settings={}, runtime_dir=tmp_path, home=tmp_path))
