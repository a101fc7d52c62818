"""Discord: the settings and their check."""

from __future__ import annotations

from pathlib import Path

import pytest

from channels.discord import DiscordChannel, create
from nanohost.channel_api import ChannelContext, ChannelError
from nanohost.channels.loader import discover, load
from nanohost.testing.simulators.discord import TOKEN, DiscordSimulator

from .bench import make_channel

ROOT = Path(__file__).parents[3]


def test_the_channel_is_found_and_does_not_shadow_its_library() -> None:
    found = discover([ROOT / "channels"]).available["discord"]
    assert callable(load(found))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "needs token"),
        ({"token": " "}, "needs token"),
        ({"token": "two words"}, "needs token"),
        ({"token": TOKEN, "rest_url": "discord.com"}, "rest_url must be"),
        ({"token": TOKEN, "gateway_url": "https://x"}, "gateway_url must be"),
        ({"token": TOKEN, "timeout_s": 0}, "timeout_s"),
        ({"token": TOKEN, "tokn": "x"}, "tokn"),
    ],
)
def test_invalid_settings_are_reported_without_the_token(
    settings: dict[str, object], words: str, tmp_path: Path
) -> None:
    context = ChannelContext(instance="work", settings=settings, runtime_dir=tmp_path, home=tmp_path)
    with pytest.raises(ChannelError, match=words) as raised:
        create(context)
    assert "channels.discord.work" in str(raised.value)
    assert TOKEN not in str(raised.value)


async def test_a_token_copied_with_its_prefix_is_accepted(platform: DiscordSimulator, tmp_path: Path) -> None:
    said = await make_channel(platform, tmp_path, token=f"Bot {TOKEN} ").check()
    assert said.startswith("This is nanohost (900), in 1 servers; to add it: https://")


async def test_a_bot_without_the_message_content_intent_is_found_by_the_check(
    channel: DiscordChannel, platform: DiscordSimulator
) -> None:
    platform.allows_content = False
    with pytest.raises(ChannelError, match="Message Content Intent"):
        await channel.check()
