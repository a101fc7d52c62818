"""nanohost chat --once beside a host that has other things to say, too: the reply is what answers what was typed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from channels.terminal import TerminalChannel
from nanohost.channel_api import Accepted, Address, InboundEvent, OutboundText
from nanohost.cli.chat import _once
from nanohost.cli.registered import perform
from nanohost.commands.registry import find
from nanohost.errors import NanohostError
from nanohost.home import Home
from nanohost.testing.channel_suite import SuiteInbox

REMINDER = OutboundText(text="Reminder: tea")


class Host(SuiteInbox):
    """Satisfies Inbox: says what it is told to say when something was typed; `{id}` is the id of that."""

    def __init__(self, channel: TerminalChannel, *says: OutboundText) -> None:
        super().__init__()
        self._channel = channel
        self._says = says
        self._tasks: list[asyncio.Task[None]] = []

    async def accept(self, event: InboundEvent) -> Accepted:
        self._tasks.append(asyncio.create_task(self._say(event)))
        return Accepted(new=True)

    async def _say(self, event: InboundEvent) -> None:
        for number, message in enumerate(self._says):
            reply_to = None if message.reply_to is None else message.reply_to.format(id=event.platform_message_id)
            said = OutboundText(text=message.text, reply_to=reply_to)
            await self._channel.send(Address(platform_id=event.platform_id), said, idempotency_key=str(number))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with self._channel.connected():
            self._tasks.append(asyncio.create_task(self._channel.receive(self)))
            try:
                yield
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)


async def asked(home: Home, *says: OutboundText, timeout_s: float = 10.0) -> int:
    async with Host(TerminalChannel(home.run / "terminal.sock"), *says).serving():
        return await _once(home, "what is on my list?", timeout_s)


@pytest.fixture
async def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    home = Home(tmp_path)
    home.prepare()
    await perform(find("terminal setup"), {}, home)
    capsys.readouterr()
    return home


@pytest.mark.behaviour("OP-05")
async def test_a_reminder_that_falls_due_meanwhile_is_not_the_reply(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = OutboundText(text="an old answer", reply_to="0000")
    assert await asked(home, earlier, REMINDER, OutboundText(text="Nothing.", reply_to="{id}")) == 0
    told = capsys.readouterr()
    assert told.out == "Nothing.\n"
    assert told.err.splitlines() == ["(earlier) an old answer", "(meanwhile) Reminder: tea"]


async def test_a_reminder_alone_is_no_reply(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NanohostError, match=r"no reply within 0\.5 s"):
        await asked(home, REMINDER, timeout_s=0.5)
    assert capsys.readouterr().out == ""
