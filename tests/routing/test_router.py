"""From events on disk to rows in mailboxes: a real database, real mailboxes, and a list of woken sessions."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nanohost.channel_api import Attachment, EventKind, InboundEvent, Sender
from nanohost.db import (
    agent_groups,
    cards,
    events,
    host_messages,
    messaging_groups,
    roles,
    sessions,
    status_counts,
    wirings,
)
from nanohost.db.database import Store, open_store
from nanohost.db.domain_events import (
    ApprovalChanged,
    ChatHasEvents,
    QueueHasWork,
    SessionHasControlMessages,
    SessionHasWork,
)
from nanohost.db.events import ChatKey, StoredEvent
from nanohost.db.routes import Route
from nanohost.errors import MailboxError, StoreError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.writer import WriteResult
from nanohost.model import (
    HOST_SESSION_ID,
    AgentGroup,
    EngageMode,
    EventId,
    IgnoredMessagePolicy,
    MessagingGroup,
    Role,
    SenderScope,
    Session,
    SessionMode,
    UnknownSender,
    WiringId,
)
from nanohost.routing.albums import PIECE_WAIT_S
from nanohost.routing.attachments import AttachmentFetcher
from nanohost.routing.route_resolver import RoutedEntry
from nanohost.routing.route_writer import RouteWriter
from nanohost.routing.router import BATCH_SIZE, MAX_ATTEMPTS, EventHandler, Router
from nanohost.routing.session_resolver import SessionResolver
from nanohost.routing.unknown_sender_policy import CHAT_UNKNOWN, CHAT_UNWIRED
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost.verify.ledger import EVENTS_WITHOUT_ROUTE
from nanohost.work.fair_share import FairShare
from nanohost_protocol.payloads import CardOut, ChatIn, decode_in
from nanohost_protocol.rows import MessageIn, NewMessageIn, Origin
from tests.support.recorded_events import record_events
from tests.support.routers import make_router
from tests.support.template_home import make_database

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
CHAT = ChatKey("fake", "main", "c1")


class World:
    """The database, and the woken sessions. A router is opened for as long as a test needs it."""

    def __init__(self, store: Store, mailboxes: Mailboxes) -> None:
        self.store = store
        self.mailboxes = mailboxes
        self.clock = ManualClock()
        self.woken = record_events(store.bus, SessionHasWork, lambda event: event.session)
        self.obeying = record_events(store.bus, SessionHasControlMessages, lambda event: event.session)
        self.answered = record_events(store.bus, QueueHasWork, lambda event: event.queue)
        self.asked = record_events(store.bus, ApprovalChanged, lambda event: event.approval)
        self._numbers = iter(range(1, 10_000))

    async def agent(self, folder: str) -> AgentGroup:
        async with self.store.transaction() as tx:
            return await agent_groups.add(tx, folder=folder, name=folder, provider=None, model=None, now=NOON)

    async def chat(
        self, platform_id: str = "c1", unknown: UnknownSender = UnknownSender.PUBLIC, *, is_group: bool = False
    ) -> MessagingGroup:
        async with self.store.transaction() as tx:
            return await messaging_groups.add(
                tx,
                channel_type="fake",
                instance="main",
                platform_id=platform_id,
                is_group=is_group,
                name=platform_id,
                unknown_sender=unknown,
                now=NOON,
            )

    async def wire(
        self,
        chat: MessagingGroup,
        agent: AgentGroup,
        *,
        engage: EngageMode = EngageMode.PATTERN,
        pattern: str = ".",
        mode: SessionMode = SessionMode.SHARED,
        priority: int = 0,
        scope: SenderScope = SenderScope.ALL,
        ignored: IgnoredMessagePolicy = IgnoredMessagePolicy.DROP,
        bots: bool = False,
    ) -> WiringId:
        async with self.store.transaction() as tx:
            wiring = await wirings.add(
                tx,
                messaging_group=chat.id,
                agent_group=agent.id,
                engage_mode=engage,
                engage_pattern=pattern,
                session_mode=mode,
                priority=priority,
                now=NOON,
                sender_scope=scope,
                ignored=ignored,
                bots=bots,
            )
        return wiring.id

    async def says(
        self,
        *texts: str,
        chat: str = "c1",
        thread: str | None = None,
        is_group: bool = False,
        mentions: bool = False,
        sender: str = "u1",
        bot: bool = False,
        kind: EventKind = EventKind.MESSAGE,
        name: str = "Ada",
        value: str | None = None,
        refers_to: str | None = None,
        files: tuple[Attachment, ...] = (),
    ) -> None:
        """Events as the inbox writes them."""
        async with self.store.transaction() as tx:
            for text in texts:
                event = InboundEvent(
                    platform_id=chat,
                    platform_message_id=str(next(self._numbers)),
                    sender=Sender(handle=sender, name=name, is_bot=bot),
                    text=text,
                    sent_at=NOON,
                    kind=kind,
                    thread_id=thread,
                    is_group=is_group,
                    mentions_bot=mentions,
                    value=value,
                    refers_to=refers_to,
                    attachments=files,
                )
                await events.add(tx, replace(CHAT, platform_id=chat), event, now=NOON)

    def router(
        self,
        writer: type[RouteWriter] = RouteWriter,
        requests: EventHandler | None = None,
        attachments: AttachmentFetcher | None = None,
        fair: FairShare | None = None,
    ) -> Router:
        return make_router(
            self.store,
            self.mailboxes,
            self.clock,
            writer=writer,
            requests=requests,
            attachments=attachments,
            fair=fair,
        )

    async def grant(self, user: str, role: Role, agent: AgentGroup | None = None) -> None:
        async with self.store.transaction() as tx:
            await roles.grant(
                tx, user_id=user, role=role, agent_group=None if agent is None else agent.id, now=self.clock.now()
            )

    async def let_in(self, agent: AgentGroup) -> None:
        """Wire the held chat to an agent, as an approval does."""
        [group] = await messaging_groups.list_all(self.store)
        await self.grant("fake:u1", Role.MEMBER, agent)
        await self.wire(group, agent)
        async with self.store.transaction() as tx:
            await tx.execute("UPDATE inbound_events SET status = 'new' WHERE status = 'held'")

    @asynccontextmanager
    async def routing(self) -> AsyncIterator[Router]:
        """A router that has handled all existing events."""
        router = self.router()
        async with router.opened():
            await self.until(self.nothing_new)
            yield router

    async def route(self) -> None:
        async with self.routing():
            pass

    async def nothing_new(self) -> bool:
        return not await events.list_chats_with_new(self.store)

    async def until(self, true: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while not await true():
                pass

    async def session(self, folder: str, thread: str | None = None) -> Session:
        (found,) = [
            s async for s in sessions.iter_all(self.store.reports) if (s.group_folder, s.thread_id) == (folder, thread)
        ]
        return found

    async def mailbox(self, folder: str, thread: str | None = None) -> list[str]:
        """The texts in a session's mailbox, in order."""
        session = await self.session(folder, thread)
        rows = await self.mailboxes.read_inbound(session, lambda box: list(box.due(NOON)))
        return [_text(row) for row in rows]

    async def outcomes(self) -> list[tuple[str, str]]:
        rows = await self.store.fetch_all(
            "SELECT e.text, r.outcome FROM routes r JOIN inbound_events e ON e.id = r.event_id"
            " ORDER BY r.wiring_id, e.id"
        )
        return [(row["text"], row["outcome"]) for row in rows]

    async def drops(self) -> list[tuple[str, str]]:
        rows = await self.store.fetch_all(
            "SELECT text, reason FROM inbound_events WHERE status = 'dropped' ORDER BY id"
        )
        return [(row["text"], row["reason"]) for row in rows]


def _text(row: MessageIn) -> str:
    payload = decode_in(row.kind, row.content)
    assert isinstance(payload, ChatIn)
    return payload.text


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = tmp_path / "nanohost.db"
    make_database(database)
    mailboxes = Mailboxes(tmp_path / "sessions", durable=False)
    async with open_store(database, durable=False) as store, mailboxes.opened():
        yield World(store, mailboxes)


# --- the ordinary way


async def test_an_event_is_written_to_the_mailbox_and_its_session_is_woken_and_due(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await world.says("hello")
    await world.route()
    session = await world.session("a")
    assert await world.mailbox("a") == ["hello"]
    assert world.woken == [session.id]
    assert session.due_at == world.clock.now()
    assert await world.outcomes() == [("hello", "written")]


class AckedBeforeRecorded(RouteWriter):
    """The runner's acks of the row are processed before the row is on record."""

    async def write(self, session: Session, rows: Sequence[RoutedEntry]) -> tuple[list[Route], WriteResult]:
        made, written = await super().write(session, rows)
        async with self._store.transaction() as tx:
            await sessions.advance_ack_cursor(tx, session, cursor=7, due=None, has_failures=False)
        return made, written


@pytest.mark.behaviour("SE-05")
@pytest.mark.parametrize(("writer", "may_be_done"), [(RouteWriter, False), (AckedBeforeRecorded, True)])
async def test_a_wake_tells_whether_acks_were_processed_while_the_message_was_written(
    world: World, writer: type[RouteWriter], may_be_done: bool
) -> None:
    """Only then the work may be done already; otherwise nobody needs to read the runner's file for it."""
    told = record_events(world.store.bus, SessionHasWork, lambda event: event.may_be_done)
    await world.wire(await world.chat(), await world.agent("a"))
    await world.says("hello")
    async with world.router(writer).opened():
        await world.until(world.nothing_new)
    assert told == [may_be_done]


async def test_an_event_published_while_the_router_is_open_is_routed(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    async with world.routing():
        await world.says("hello")
        world.store.bus.publish(ChatHasEvents(CHAT))
        await world.until(world.nothing_new)
    assert await world.mailbox("a") == ["hello"]


@pytest.mark.behaviour("IN-07")
async def test_mailbox_order_follows_chat_order(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    texts = [f"{number:03}" for number in range(BATCH_SIZE * 2 + 5)]
    async with world.routing():
        for text in texts:
            await world.says(text)
            world.store.bus.publish(ChatHasEvents(CHAT))
        await world.until(world.nothing_new)
    assert await world.mailbox("a") == texts


@pytest.mark.behaviour("RT-02")
async def test_a_second_message_uses_the_session_of_the_first(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    for text in ("one", "two"):
        await world.says(text)
        await world.route()
    assert await world.mailbox("a") == ["one", "two"]
    assert len([one async for one in sessions.iter_all(world.store.reports)]) == 1


@pytest.mark.behaviour("RT-01")
async def test_threads_are_sessions_in_a_group_and_not_in_a_direct_chat(world: World) -> None:
    await world.wire(await world.chat("c1", is_group=True), await world.agent("a"))
    await world.wire(await world.chat("dm"), await world.agent("b"))
    for thread in ("7", "8"):
        await world.says(thread, thread=thread, is_group=True)
        await world.says(thread, thread=thread, chat="dm")
    await world.route()
    assert (await world.mailbox("a", "7"), await world.mailbox("a", "8")) == (["7"], ["8"])
    assert await world.mailbox("b") == ["7", "8"]


@pytest.mark.behaviour("RT-02")
async def test_chats_that_share_an_agent_share_its_session(world: World) -> None:
    agent = await world.agent("a")
    for chat in ("c1", "c2"):
        await world.wire(await world.chat(chat), agent, mode=SessionMode.AGENT_SHARED)
        await world.says(chat, chat=chat)
    await world.route()
    assert sorted(await world.mailbox("a")) == ["c1", "c2"]


async def test_chat_details_reported_by_the_platform_are_stored(world: World) -> None:
    chat = await world.chat("c1")
    await world.wire(chat, await world.agent("a"))
    await world.says("hi", is_group=True, mentions=True)
    await world.route()
    assert (await messaging_groups.get(world.store, chat.id)).is_group is True


# --- unknown and denied senders


@pytest.mark.behaviour("RT-10")
async def test_an_event_without_a_wiring_is_dropped_with_the_reason(world: World) -> None:
    await world.chat("c2")
    await world.says("to nobody", is_group=True)
    await world.says("to no agent", chat="c2", is_group=True)
    await world.route()
    assert await world.drops() == [("to nobody", CHAT_UNKNOWN), ("to no agent", CHAT_UNWIRED)]
    assert (world.woken, [one async for one in sessions.iter_all(world.store.reports)]) == ([], [])


@pytest.mark.behaviour("AC-02", "RT-07", "RT-10")
async def test_a_denied_message_is_recorded_and_written_to_no_mailbox(world: World) -> None:
    agent = await world.agent("a")
    await world.wire(await world.chat(unknown=UnknownSender.STRICT), agent)
    async with world.store.transaction() as tx:
        await roles.grant(tx, user_id="fake:u2", role=Role.MEMBER, agent_group=agent.id, now=NOON)
    await world.says("stranger", sender="u1")
    await world.says("member", sender="u2")
    await world.route()
    assert await world.mailbox("a") == ["member"]
    assert await world.outcomes() == [("stranger", "denied"), ("member", "written")]
    row = await world.store.fetch_one("SELECT reason FROM routes WHERE outcome = 'denied'")
    assert row is not None
    assert "strict" in row["reason"]


@pytest.mark.behaviour("OP-01")
async def test_a_denied_sender_is_listed_until_they_have_a_role(world: World) -> None:
    agent = await world.agent("a")
    await world.wire(await world.chat(unknown=UnknownSender.STRICT), agent)
    await world.says("stranger", sender="u1")
    await world.route()
    [shown] = (await status_counts.lists(world.store.reports, NOON))["senders_denied"]
    assert shown["user"] == "fake:u1"
    async with world.store.transaction() as tx:
        later = NOON + timedelta(days=10_000)
        await roles.grant(tx, user_id="fake:u1", role=Role.MEMBER, agent_group=agent.id, now=later)
    assert (await status_counts.lists(world.store.reports, NOON))["senders_denied"] == []


@pytest.mark.behaviour("RT-04")
async def test_a_mention_sticks_to_its_thread(world: World) -> None:
    await world.wire(await world.chat(is_group=True), await world.agent("a"), engage=EngageMode.MENTION_STICKY)
    await world.says("before", thread="7", is_group=True)
    await world.says("@nan", thread="7", is_group=True, mentions=True)
    await world.says("same batch", thread="7", is_group=True)
    await world.says("elsewhere", thread="8", is_group=True)
    await world.route()
    await world.says("later", thread="7", is_group=True)
    await world.route()
    assert await world.mailbox("a", "7") == ["@nan", "same batch", "later"]
    assert len([one async for one in sessions.iter_all(world.store.reports)]) == 1


@pytest.mark.behaviour("RT-04")
async def test_a_mention_does_not_stick_to_chats_that_only_share_the_agent(world: World) -> None:
    agent = await world.agent("a")
    for chat in ("dm", "c1"):
        await world.wire(
            await world.chat(chat, is_group=chat == "c1"),
            agent,
            engage=EngageMode.MENTION_STICKY,
            mode=SessionMode.AGENT_SHARED,
        )
    await world.says("a private word", chat="dm")
    await world.route()
    await world.says("chatter", is_group=True)
    await world.route()
    assert await world.mailbox("a") == ["a private word"]


@pytest.mark.behaviour("RT-04")
async def test_a_mention_does_not_stick_to_other_threads_of_a_chat_whose_agent_is_shared(world: World) -> None:
    chat, agent = await world.chat(is_group=True), await world.agent("a")
    await world.wire(chat, agent, engage=EngageMode.MENTION_STICKY, mode=SessionMode.AGENT_SHARED)
    for _ in range(2):
        await world.says("@nan", thread="7", is_group=True, mentions=True)
        await world.says("here", thread="7", is_group=True)
        await world.says("in another thread", thread="8", is_group=True)
        await world.says("in none", is_group=True)
        await world.route()
    await world.says("later", thread="7", is_group=True)
    await world.says("in another thread", thread="8", is_group=True)
    await world.route()
    assert await world.mailbox("a") == ["@nan", "here", "@nan", "here", "later"]


@pytest.mark.behaviour("RT-04")
async def test_a_failed_event_is_answered_in_the_session_it_would_have_been_routed_to(world: World) -> None:
    await world.wire(await world.chat(is_group=True), await world.agent("a"), engage=EngageMode.MENTION_STICKY)
    await world.wire(await world.chat("dm"), await world.agent("b"), pattern="^b")
    await world.says("@nan", thread="7", is_group=True, mentions=True)
    await world.route()
    await world.says("later", thread="7", is_group=True)
    await world.says("in another thread", thread="8", is_group=True)
    await world.says("/status", "nothing of its business", chat="dm")
    speaker = SessionResolver(world.store, world.clock)
    waiting = [stored for chat in ("c1", "dm") for stored in await _new(world, chat)]
    sessions_for = [await speaker.find_or_create_session(stored) for stored in waiting]
    assert sessions_for == [(await world.session("a", "7")).id, None, (await world.session("b")).id, None]


async def _new(world: World, chat: str) -> list[StoredEvent]:
    return await events.list_new(world.store, replace(CHAT, platform_id=chat), limit=9)


# --- fan-out and failures


@pytest.mark.behaviour("RT-03")
async def test_each_wiring_decides_independently(world: World) -> None:
    chat = await world.chat()
    await world.wire(chat, await world.agent("a"))
    await world.wire(chat, await world.agent("b"), pattern="^b")
    await world.says("a", "b")
    await world.route()
    assert (await world.mailbox("a"), await world.mailbox("b")) == (["a", "b"], ["b"])


@pytest.mark.behaviour("RT-03")
async def test_an_invalid_pattern_affects_its_own_wiring_only(world: World) -> None:
    chat = await world.chat()
    await world.wire(chat, await world.agent("a"), pattern="(")
    await world.wire(chat, await world.agent("b"))
    await world.says("hello")
    await world.route()
    assert await world.mailbox("b") == ["hello"]
    assert await world.outcomes() == [("hello", "not_engaged"), ("hello", "written")]


@pytest.mark.behaviour("RT-03", "IN-03", "IN-07")
async def test_a_damaged_mailbox_delays_only_its_session_and_is_written_in_order_once_repaired(world: World) -> None:
    chat = await world.chat()
    for folder in ("a", "b"):
        await world.wire(chat, await world.agent(folder))
    await world.says("one")
    await world.route()
    broken = world.mailboxes.layout(await world.session("a")).inbound_db
    sound = broken.read_bytes()
    broken.write_bytes(b"garbage" * 1000)
    async with world.routing():
        for text in ("two", "three"):
            await world.says(text)
            world.store.bus.publish(ChatHasEvents(CHAT))
            await world.until(world.nothing_new)
        assert await world.mailbox("b") == ["one", "two", "three"]
        assert (await world.outcomes())[:3] == [("one", "written"), ("two", "waiting"), ("three", "waiting")]
        await world.clock.wait_for_sleeper()
        broken.write_bytes(sound)
        await world.clock.advance(60)
        await world.until(lambda: _nothing_waits(world))
        await world.says("four")
        world.store.bus.publish(ChatHasEvents(CHAT))
        await world.until(world.nothing_new)
    assert await world.mailbox("a") == ["one", "two", "three", "four"]
    assert {outcome for _, outcome in await world.outcomes()} == {"written"}
    assert (await world.session("a")).id in world.woken


@pytest.mark.behaviour("RT-03", "IN-07")
async def test_waiting_rows_are_written_first_after_a_restart(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await world.says("one")
    await world.route()
    broken = world.mailboxes.layout(await world.session("a")).inbound_db
    sound = broken.read_bytes()
    broken.write_bytes(b"garbage" * 1000)
    await world.says("two")
    await world.route()
    broken.write_bytes(sound)
    await world.says("three")
    async with world.routing():
        await world.until(lambda: _nothing_waits(world))
    assert await world.mailbox("a") == ["one", "two", "three"]


async def _nothing_waits(world: World) -> bool:
    return await world.store.fetch_one("SELECT 1 FROM routes WHERE outcome = 'waiting'") is None


# --- crashes


class FailsBeforeRecording(RouteWriter):
    """Writes into the mailboxes, and raises before it records that."""

    async def record(self, *_: object) -> set[EventId]:
        raise StoreError("the process ended here")

    async def record_deletion(self, *_: object) -> None:
        raise StoreError("the process ended here")


async def crash(world: World) -> None:
    async with world.router(FailsBeforeRecording).opened():
        await world.clock.wait_for_sleeper()


@pytest.mark.behaviour("IN-02", "IN-03")
async def test_a_crash_between_mailbox_and_record_does_not_repeat_a_message(world: World) -> None:
    chat = await world.chat()
    for folder in ("a", "b"):
        await world.wire(chat, await world.agent(folder))
    await world.says("one", "two")
    await crash(world)
    assert await world.mailbox("a") == ["one", "two"]
    assert (await world.outcomes(), world.woken) == ([], [])
    await crash(world)
    await world.route()
    assert (await world.mailbox("a"), await world.mailbox("b")) == (["one", "two"], ["one", "two"])
    assert len([one async for one in sessions.iter_all(world.store.reports)]) == 2
    assert len(set(world.woken)) == 2


@pytest.mark.behaviour("IN-07", "RT-04")
async def test_after_a_crash_a_sticky_mention_does_not_apply_to_earlier_messages(world: World) -> None:
    await world.wire(await world.chat(is_group=True), await world.agent("a"), engage=EngageMode.MENTION_STICKY)
    await world.says("before", is_group=True)
    await world.says("@nan", is_group=True, mentions=True)
    await world.says("after", is_group=True)
    await crash(world)
    assert await world.mailbox("a") == ["@nan", "after"]
    await world.route()
    assert await world.mailbox("a") == ["@nan", "after"]
    assert await world.outcomes() == [("before", "not_engaged"), ("@nan", "written"), ("after", "written")]


# --- unexpected errors


class FailingRouter(RouteWriter):
    """Raises for one text."""

    async def write(self, session: Session, rows: Sequence[RoutedEntry]) -> tuple[list[Route], WriteResult]:
        if any(row.stored.event.text == "poison" for row in rows):
            raise ZeroDivisionError("a mistake of ours")
        return await super().write(session, rows)


async def _poisoned(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await world.wire(await world.chat("c2"), await world.agent("b"))
    await world.says("before", "poison", "after")
    await world.says("elsewhere", chat="c2")


async def _tries(world: World, count: int) -> bool:
    row = await world.store.fetch_one("SELECT attempts FROM inbound_events WHERE text = 'poison'")
    return row is not None and row["attempts"] == count


@pytest.mark.behaviour("IN-03", "IN-07")
async def test_a_failing_event_is_retried_with_growing_pauses_and_delays_its_own_chat_only(
    world: World,
) -> None:
    await _poisoned(world)
    async with world.router(FailingRouter).opened():
        await world.until(lambda: _tries(world, 1))
        assert (await world.mailbox("a"), await world.mailbox("b")) == (["before"], ["elsewhere"])
        pauses = []
        for tries in (2, 3, 4):
            await world.clock.wait_for_sleeper()
            [pause_s] = world.clock.remaining_sleeps_s()
            await world.clock.advance(pause_s)
            await world.until(lambda tries=tries: _tries(world, tries))  # type: ignore[misc]
            pauses.append(pause_s)
    assert pauses == [0.25, 0.5, 1]
    await world.route()
    assert await world.mailbox("a") == ["before", "poison", "after"]


@pytest.mark.behaviour("IN-04")
async def test_an_event_that_always_fails_is_quarantined_and_its_chat_continues_across_restarts(world: World) -> None:
    await _poisoned(world)
    for tries in range(1, MAX_ATTEMPTS):
        async with world.router(FailingRouter).opened():
            await world.until(lambda tries=tries: _tries(world, tries))  # type: ignore[misc]
    async with world.router(FailingRouter).opened():
        await world.until(world.nothing_new)
    assert await world.mailbox("a") == ["before", "after"]
    [aside] = await events.list_quarantined(world.store, limit=10)
    assert (aside.event.text, aside.reason) == ("poison", "ZeroDivisionError: a mistake of ours")
    async with world.store.transaction() as tx:
        assert await events.requeue(tx, aside.id)
        assert await events.requeue(tx, aside.id) is None
    await world.route()
    assert await world.mailbox("a") == ["before", "after", "poison"]


@pytest.mark.behaviour("IN-03", "IN-07", "RT-04")
async def test_events_handled_before_a_failure_in_their_batch_are_not_decided_again(world: World) -> None:
    await world.wire(await world.chat(is_group=True), await world.agent("a"), engage=EngageMode.MENTION_STICKY)
    await world.says("before", is_group=True)
    await world.says("@nan", is_group=True, mentions=True)
    await world.says("for the host", "poison", is_group=True)
    async with world.router(FailingRouter, requests=FakeRequestHandler(world)).opened():
        await world.until(lambda: _tries(world, 1))
    assert await world.mailbox("a") == ["@nan"]
    assert await world.outcomes() == [("before", "not_engaged"), ("@nan", "written")]


@pytest.mark.behaviour("IN-07", "RT-08")
async def test_released_messages_come_before_messages_after_the_code_that_released_them(world: World) -> None:
    await world.grant("fake:boss", Role.OWNER)
    await world.says("one")
    await world.route()
    await world.says("for the host", "two")
    agent = await world.agent("a")

    async with world.router(requests=FakeRequestHandler(world, lambda: world.let_in(agent))).opened():
        await world.until(world.nothing_new)
    assert await world.mailbox("a") == ["one", "two"]


@pytest.mark.behaviour("IN-07")
async def test_an_event_released_during_a_batch_is_routed_before_a_host_request(world: World) -> None:
    await world.grant("fake:boss", Role.OWNER)
    await world.says("one")
    await world.route()
    await world.says("two", "for the host")
    agent = await world.agent("a")
    found: list[tuple[str, str]] = []

    class Late(FakeRequestHandler):
        async def can_handle(self, stored: StoredEvent) -> bool:
            wanted = await super().can_handle(stored)
            if wanted and not await wirings.list_all(world.store):
                await world.let_in(agent)
            return wanted

        async def handle(self, stored: StoredEvent) -> bool:
            found.extend(await world.outcomes())
            return await super().handle(stored)

    async with world.router(requests=Late(world)).opened():
        await world.until(world.nothing_new)
    assert found == [("one", "written"), ("two", "written")]


class FakeRequestHandler:
    """A host request handler that takes one text, and acts on it."""

    def __init__(self, world: World, act: Callable[[], Awaitable[None]] | None = None) -> None:
        self._store = world.store
        self._act = act

    async def can_handle(self, stored: StoredEvent) -> bool:
        return stored.event.text == "for the host"

    async def handle(self, stored: StoredEvent) -> bool:
        if self._act is not None:
            await self._act()
        async with self._store.transaction() as tx:
            await events.mark_settled(tx, stored.id, events.REASON_FOR_HOST)
        return True


@pytest.mark.behaviour("AP-03", "IN-04")
async def test_a_bot_that_presses_on_a_host_card_is_rejected_and_blocks_nothing(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"), bots=True)
    place = Origin(channel_type="fake", instance="main", platform_id="c1")
    async with world.store.transaction() as tx:
        await host_messages.enqueue(tx, place, CardOut(title="?", body="", options=("yes",)), out_id="h1", now=NOON)
    await world.says("beep", bot=True, kind=EventKind.CLICK, value=cards.button_value(HOST_SESSION_ID, "h1", 1))
    await world.route()
    assert await world.outcomes() == [("beep", "not_engaged")]


@pytest.mark.behaviour("IN-06", "IN-03")
async def test_a_file_is_fetched_by_one_worker_at_a_time_when_its_message_is_retried(world: World) -> None:
    """Two workers that write one file would corrupt it."""
    await world.wire(await world.chat(), await world.agent("a"))
    fetching: list[int] = []

    class SlowFiles(AttachmentFetcher):
        refuses = 1

        def __init__(self) -> None:
            pass

        async def add_files(self, session: Session, stored: StoredEvent, message: NewMessageIn) -> NewMessageIn:
            if stored.event.text == "no room for it":
                self.refuses -= 1
                if self.refuses == 0:
                    raise MailboxError("no room")
                return message
            fetching.append(fetching[-1] + 1 if fetching else 1)
            for _ in range(200):
                await world.store.fetch_one("SELECT 1")
            fetching.append(fetching[-1] - 1)
            return message

    await world.says("no room for it", "slow", files=(Attachment(ref="f"),))
    async with world.router(attachments=SlowFiles()).opened():
        await world.until(world.nothing_new)
        await world.until(lambda: nothing_waits(world))
    assert max(fetching) == 1
    assert await world.mailbox("a") == ["no room for it", "slow"]


async def nothing_waits(world: World) -> bool:
    return await world.store.fetch_one("SELECT 1 FROM routes WHERE outcome = 'waiting'") is None


@pytest.mark.behaviour("IN-03")
async def test_a_failing_disk_never_quarantines_an_event(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await world.says("one")
    for _ in range(MAX_ATTEMPTS + 1):
        await crash(world)
    assert await events.list_quarantined(world.store, limit=10) == []
    await world.route()
    assert await world.mailbox("a") == ["one"]


class RecordedFairShare(FairShare):
    """Pauses for no time, and records the chats that did."""

    def __init__(self) -> None:
        super().__init__()
        self.gave_way: list[str] = []

    async def yield_to_others(self, chat: Hashable, worked_s: float) -> None:
        assert isinstance(chat, ChatKey)
        self.gave_way.append(chat.platform_id)


async def test_a_chat_yields_after_each_full_batch_and_not_after_a_single_event(world: World) -> None:
    fair = RecordedFairShare()
    for chat in ("c1", "c2"):
        await world.wire(await world.chat(chat), await world.agent(chat))
    await world.says("one", "two", chat="c1")
    await world.says("alone", chat="c2")
    async with world.router(fair=fair).opened():
        await world.until(world.nothing_new)
    assert fair.gave_way == ["c1"]


# --- albums


def piece(number: int, *, text: str = "", mentions: bool = False, sender: str = "u1") -> InboundEvent:
    return InboundEvent(
        platform_id="c1",
        platform_message_id=f"p{number}",
        sender=Sender(handle=sender, name="Ada"),
        text=text,
        sent_at=NOON,
        is_group=True,
        mentions_bot=mentions,
        attachments=(Attachment(ref=f"f{number}"),),
        album="g1",
    )


async def arrive(world: World, *pieces: InboundEvent) -> None:
    async with world.store.transaction() as tx:
        for one in pieces:
            await events.add(tx, CHAT, one, now=world.clock.now())


async def routed(world: World) -> list[tuple[str, list[str]]]:
    """Text and files of the routed events, in order."""
    rows = await world.store.fetch_all(
        "SELECT e.text, e.attachments FROM routes r JOIN inbound_events e ON e.id = r.event_id ORDER BY e.id"
    )
    return [(row["text"], [one["ref"] for one in json.loads(row["attachments"])]) for row in rows]


async def test_parts_of_an_album_form_one_message_also_when_one_part_mentions_the_agent(world: World) -> None:
    await world.wire(await world.chat(is_group=True), await world.agent("a"), engage=EngageMode.MENTION, pattern="")
    await arrive(world, piece(1, text="compare these", mentions=True), piece(2), piece(3))
    async with world.router().opened():
        await world.clock.wait_for_sleeper()
        await world.clock.advance(PIECE_WAIT_S)
        await world.until(world.nothing_new)
    assert await routed(world) == [("compare these", ["f1", "f2", "f3"])]
    assert await world.store.fetch_all(EVENTS_WITHOUT_ROUTE, (9,)) == []
    assert await world.mailbox("a") == ["compare these"]


async def test_parts_of_an_album_are_awaited_and_a_late_one_becomes_its_own_message(world: World) -> None:
    await world.wire(await world.chat(is_group=True), await world.agent("a"))
    await arrive(world, piece(1, text="look"))
    router = world.router()
    async with router.opened():
        await world.clock.wait_for_sleeper()
        await world.clock.advance(PIECE_WAIT_S / 2)
        await arrive(world, piece(2))
        world.store.bus.publish(ChatHasEvents(CHAT))
        await world.clock.advance(PIECE_WAIT_S / 2)
        await world.clock.wait_for_sleeper()
        await world.clock.advance(PIECE_WAIT_S)
        await world.until(world.nothing_new)
        await arrive(world, piece(3))
        world.store.bus.publish(ChatHasEvents(CHAT))
        await world.clock.wait_for_sleeper()
        await world.clock.advance(PIECE_WAIT_S)
        await world.until(world.nothing_new)
    assert await routed(world) == [("look", ["f1", "f2"]), ("", ["f3"])]


async def test_a_message_of_somebody_else_between_album_parts_is_separate_and_keeps_its_order(world: World) -> None:
    await world.wire(await world.chat(is_group=True), await world.agent("a"))
    await world.says("before", is_group=True)
    await arrive(world, piece(1, text="mine"), piece(2, text="theirs", sender="u2"), piece(3))
    await world.says("after", is_group=True)
    async with world.router().opened():
        await world.clock.wait_for_sleeper()
        await world.clock.advance(PIECE_WAIT_S)
        await world.until(world.nothing_new)
    assert await routed(world) == [("before", []), ("mine", ["f1", "f3"]), ("theirs", ["f2"]), ("after", [])]


async def test_an_album_left_unjoined_by_a_killed_host_is_joined_by_the_next(world: World) -> None:
    await world.wire(await world.chat(is_group=True), await world.agent("a"))
    await arrive(world, piece(1), piece(2))
    async with world.router().opened():
        await world.clock.wait_for_sleeper()
    assert await routed(world) == []
    await world.clock.advance(PIECE_WAIT_S)
    await world.route()
    assert await routed(world) == [("", ["f1", "f2"])]


def test_drop_reasons_name_the_command_to_type() -> None:
    for reason in (CHAT_UNKNOWN, CHAT_UNWIRED):
        assert re.search("nanohost wirings create", reason)
