"""System messages of Telegram wake nobody. What people send there: tests/channels/test_kinds.py."""

from __future__ import annotations

import pytest

from nanohost.testing.content import ContentKind
from nanohost.testing.simulators._telegram_kinds import SERVICE

from .bench import GROUP, run_bot


@pytest.mark.parametrize("kind", SERVICE)
@pytest.mark.content(ContentKind.SERVICE)
async def test_system_messages_of_telegram_wake_nobody(kind: str) -> None:
    async with run_bot() as here:
        await here.telegram.service(GROUP, SERVICE[kind])
        await here.telegram.write(GROUP, "the end", group=True)
        await here.inbox.wait_for_accepted("the end")
    assert [event.text for event in here.inbox.accepted] == ["the end"]
