"""Shows people that the agent is working, and with which tool, from half a second into a turn until its answer.

It never delays anything: a quick turn shows nothing, and a channel that is slow or fails is ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

import structlog

from nanohost.channel_api import Address, Channel, ShowsTyping, ShowsWork, Work
from nanohost.clock import Clock
from nanohost.db import moved_chats, sessions
from nanohost.db.database import Store
from nanohost.db.deliveries import DeliveryQueueKey
from nanohost.errors import MailboxError
from nanohost.mailbox import queries
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost_protocol.inbound import InboundReader
from nanohost_protocol.rows import InKind, Origin
from nanohost_protocol.times import from_text

INITIAL_DELAY_S = 0.5
"""Seconds. Most turns of a simple agent have ended by then."""
MAX_TURN_S = 3600.0
"""Seconds of one turn during which typing is shown."""
CHANNEL_TIMEOUT_S = 5.0
MAX_TOOL_NAME_CHARS = 40
"""Characters of a tool's name."""
MIN_INTERVAL_S = 1.0
"""The shortest interval between two updates, whatever a channel declares."""

_log = structlog.get_logger()


class TypingIndicator:
    """Shows typing in chats. One per host. `channels` is looked up each time by (channel type, instance)."""

    def __init__(
        self, *, store: Store, mailboxes: Mailboxes, clock: Clock, channels: Mapping[tuple[str, str], Channel]
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._channels = channels
        self._turn_messages: dict[SessionId, frozenset[str]] = {}
        """The messages of each session's current turn."""
        self._indicator_tasks: dict[SessionId, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_sent_s: dict[DeliveryQueueKey, float] = {}
        """When each session last sent a message to a chat during its current turn."""
        self._is_open = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Shows typing while entered."""
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_working(self, session: SessionId, messages: Collection[str]) -> None:
        """Records which messages a running container works on; none when its turn is over. Returns at once."""
        if not messages or not self._is_open:
            self._stop(session)
            return
        self._turn_messages[session] = frozenset(messages)
        if session not in self._indicator_tasks:
            task = asyncio.create_task(self._run(session), name=f"typing:{session}")
            self._indicator_tasks[session] = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def on_sending(self, queue: DeliveryQueueKey) -> None:
        """Records that the session sends a message to this chat. If it is the answer, the turn ends before the next
        update."""
        if queue.session_id in self._indicator_tasks:
            self._last_sent_s[queue] = self._clock.monotonic()

    def _stop(self, session: SessionId) -> None:
        self._turn_messages.pop(session, None)
        if (show := self._indicator_tasks.pop(session, None)) is not None:
            show.cancel()
            self._last_sent_s = {queue: at for queue, at in self._last_sent_s.items() if queue.session_id != session}

    async def _run(self, session: SessionId) -> None:
        try:
            await self._show_until_turn_end(session)
        except Exception as error:  # an error here is worth one line in the log
            _log.debug("typing_failed", session=session, error=str(error))

    async def _show_until_turn_end(self, session: SessionId) -> None:
        ends = self._clock.monotonic() + MAX_TURN_S
        known: dict[str, Origin | None] = {}
        pause_s = INITIAL_DELAY_S
        while self._clock.monotonic() < ends:
            await self._clock.sleep(pause_s)
            messages = self._turn_messages[session]
            if unknown := messages - known.keys():
                known |= await self._origins(session, unknown)
            origins = {origin for id in messages if (origin := known[id]) is not None}
            places = {
                _queue_and_address(session, await moved_chats.current_origin(self._store, origin)) for origin in origins
            }
            pauses = await asyncio.gather(*(self._show_once(*place) for place in places))
            pause_s = max([MIN_INTERVAL_S, *pauses])

    async def _origins(self, id: SessionId, messages: Collection[str]) -> dict[str, Origin | None]:
        """Returns the origins of the messages; None for those that no person wrote."""
        session = await sessions.get(self._store, id)
        return await self._mailboxes.read_inbound(session, lambda box: {one: _origin(box, one) for one in messages})

    async def _show_once(self, queue: DeliveryQueueKey, address: Address) -> float:
        """Shows typing in one chat. Returns the seconds until it has to be shown again."""
        channel = self._channels.get((queue.channel_type, queue.instance))
        if channel is None or not isinstance(channel, ShowsTyping | ShowsWork):
            return 0.0
        every_s = channel.capabilities.typing_every_s
        if self._clock.monotonic() - self._last_sent_s.get(queue, -every_s) < every_s:
            return every_s
        try:
            async with asyncio.timeout(CHANNEL_TIMEOUT_S):
                if isinstance(channel, ShowsWork):
                    await channel.working(address, await self._read_work(queue.session_id))
                else:
                    await channel.typing(address)
        except Exception as error:
            _log.debug("typing_failed", session=queue.session_id, channel=queue.channel_type, error=str(error))
        return every_s

    async def _read_work(self, id: SessionId) -> Work:
        """Reads what the session's container reports to be doing, as often as it is shown."""
        try:
            found = await self._mailboxes.read_outbound(await sessions.get(self._store, id), queries.progress())
        except MailboxError:
            found = None
        return Work() if found is None else parse_work(found, self._clock.now())


def parse_work(progress: queries.RunnerProgress, now: datetime) -> Work:
    """Returns what a runner reports to be doing; it need not be true. Pure."""
    name = progress.state.get("tool", "").rpartition("__")[2]  # without the name of the tool server
    tool = "".join(letter for letter in name[:MAX_TOOL_NAME_CHARS] if letter.isprintable())
    return Work(
        for_s=_seconds_since(progress.since, now),
        tool=tool,
        tool_for_s=_seconds_since(_parse_time(progress.state.get("tool_since", "")), now) if tool else 0.0,
        for_person=progress.state.get("waiting") == "person",
    )


def _parse_time(text: str) -> datetime | None:
    try:
        return from_text(text)
    except ValueError:
        return None


def _seconds_since(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else min(max(0.0, (now - since).total_seconds()), MAX_TURN_S)


def _origin(box: InboundReader, message_id: str) -> Origin | None:
    message = box.find(message_id)
    return message.origin if message is not None and message.kind is InKind.CHAT else None


def _queue_and_address(session: SessionId, origin: Origin) -> tuple[DeliveryQueueKey, Address]:
    queue = DeliveryQueueKey(session, origin.channel_type, origin.instance, origin.platform_id)
    return queue, Address(platform_id=origin.platform_id, thread_id=origin.thread_id)
