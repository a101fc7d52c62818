"""What Telegram says itself wakes nobody. What people send there: tests/channels/test_kinds.py."""

from __future__ import annotations

import pytest

from nanohost.testing.content import Content
from nanohost.testing.simulators._telegram_kinds import SERVICE

from .bench import GROUP, receiving


@pytest.mark.parametrize("kind", SERVICE)
@pytest.mark.content(Content.SERVICE)
async def test_what_telegram_says_itself_wakes_nobody(kind: str) -> None:
    async with receiving() as here:
        await here.telegram.service(GROUP, SERVICE[kind])
        await here.telegram.write(GROUP, "the end", group=True)
        await here.inbox.until_accepted("the end")
    assert [event.text for event in here.inbox.accepted] == ["the end"]
