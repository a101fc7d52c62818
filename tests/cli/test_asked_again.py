"""A person is asked again, in the same terminal, when what they typed does not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.terminal import Terminal, run_nanohost_in_terminal

PIGEON = """
# /// script
# dependencies = []
# [tool.nanohost]
# kind = "channel"
# name = "pigeon"
# api = 1
# [[tool.nanohost.settings]]
# name = "token"
# help = "what the loft gave you"
# ///
from nanohost.channel_api import AuthFailed, ChannelDown


class Pigeon:
    def __init__(self, settings):
        self.token = settings["token"]

    async def check(self):
        if self.token == "fog":
            raise ChannelDown("the loft cannot be seen")
        if self.token != "coo":
            raise AuthFailed("the loft does not know this token")
        return "We are a pigeon."


def create(context):
    return Pigeon(context.settings)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "channels").mkdir()
    (tmp_path / "channels" / "pigeon.py").write_text(PIGEON)
    return tmp_path


def answers(person: Terminal, *tokens: str) -> str:
    for number, token in enumerate(tokens, 1):
        person.wait_until(lambda text, number=number: text.count("token:") == number)  # type: ignore[misc]
        person.send_line(token)
    person.ends()
    return " ".join(person.raw.decode().split())  # lines are wrapped for the screen


@pytest.mark.behaviour("OP-05")
def test_a_channel_whose_token_fails_is_asked_for_again_and_nothing_is_saved_before(home: Path) -> None:
    with run_nanohost_in_terminal(home, "channels", "create", "pigeon") as person:
        text = answers(person, "moo", "coo")
        assert "the loft does not know this token. Nothing was saved. Once more (Ctrl-C leaves):" in text
        assert "We are a pigeon." in text
        assert person.ends() == 0
    assert "pigeon" in (home / "nanohost.toml").read_text()


@pytest.mark.behaviour("OP-05")
def test_after_three_failed_answers_the_setup_ends_without_saving(home: Path) -> None:
    with run_nanohost_in_terminal(home, "channels", "create", "pigeon") as person:
        text = answers(person, "moo", "baa", "woof")
        assert text.count("Nothing was saved. Once more") == 2
        assert "the loft does not know this token; nothing was saved" in text
        assert person.ends() == 1
    assert not (home / "nanohost.toml").exists()


@pytest.mark.behaviour("OP-05")
def test_an_unreachable_platform_is_no_reason_to_ask_for_the_token_again(home: Path) -> None:
    with run_nanohost_in_terminal(home, "channels", "create", "pigeon") as person:
        assert "the loft cannot be seen; nothing was saved" in answers(person, "fog")
        assert person.ends() == 1
