"""How many links and styles one message of Telegram shows."""

from __future__ import annotations

import re

import pytest

from channels.telegram import CAPABILITIES
from nanohost.delivery.render import split_for_channel


@pytest.mark.behaviour("DL-06")
def test_a_message_has_no_more_links_than_telegram_shows() -> None:
    parts = split_for_channel(
        "\n".join(f"- [item {number}](https://x.example/{number})" for number in range(250)), CAPABILITIES
    )
    links = [len(re.findall("<a ", part.text)) for part in parts]
    assert sum(links) == 250
    assert max(links) <= 100
