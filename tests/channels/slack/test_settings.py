"""The settings in [channels.slack], and the files shipped with the channel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from channels.slack import SCOPES, SlackSettings, create
from nanohost.channel_api import ChannelContext, ChannelError
from nanohost.channels.header import read_header

ROOT = Path(__file__).parents[3]
GOOD = {"bot_token": "xoxb-1", "app_token": "xapp-1"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "channels.slack needs bot_token"),
        ({"bot_token": "xoxb-1"}, "channels.slack needs app_token"),
        ({"bot_token": "xapp-secret", "app_token": "xoxb-secret"}, "it begins with xoxb-"),
        (GOOD | {"colour": "red"}, "channels.slack cannot be used: colour: "),
        (GOOD | {"bot_token": "xoxb-secret\nHost: x"}, "channels.slack needs bot_token"),
        (GOOD | {"app_token": "xapp-sécret"}, "channels.slack needs app_token"),
        (GOOD | {"timeout_s": 500}, "timeout_s: "),
        (GOOD | {"base_url": "slack.com"}, "base_url must be an address"),
    ],
)
def test_invalid_settings_are_reported_without_secrets(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ChannelError) as raised:
        create(_context(settings))
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)


def test_settings_of_another_instance_are_named_as_such() -> None:
    with pytest.raises(ChannelError, match=r"channels\.slack\.work needs"):
        create(_context({}, instance="work"))


def test_two_tokens_are_enough_settings() -> None:
    assert create(_context(dict(GOOD))).capabilities.threads


def test_the_header_and_the_page_name_the_settings() -> None:
    asked = {setting.name for setting in read_header(ROOT / "channels" / "slack.py").settings}
    page = (ROOT / "docs" / "channels" / "slack.md").read_text(encoding="utf-8")
    assert asked <= set(SlackSettings.model_fields)
    assert [name for name in SlackSettings.model_fields if f"| `{name}` |" not in page] == []


def test_the_manifest_requests_the_scopes_that_the_channel_uses() -> None:
    manifest = json.loads((ROOT / "docs" / "channels" / "slack-manifest.json").read_text(encoding="utf-8"))
    assert sorted(manifest["oauth_config"]["scopes"]["bot"]) == sorted(SCOPES)
    assert manifest["settings"]["socket_mode_enabled"]
    assert manifest["settings"]["interactivity"]["is_enabled"]


def _context(settings: dict[str, object], *, instance: str = "default") -> ChannelContext:
    return ChannelContext(instance=instance, settings=settings, runtime_dir=Path(), home=Path())
