"""A home in the middle of a normal day, made by the host's own parts, and the changes that damage it. Two sessions:
`rest` has answered its message and is idle; `busy` has a container that works on its message."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from nanohost.channel_api import InboundEvent, Sender
from nanohost.config.home import Home
from nanohost.containers.ack_processor import AckProcessor
from nanohost.db import agent_groups, deliveries, events, messaging_groups, sessions, wirings
from nanohost.db.database import Store
from nanohost.db.deliveries import AttemptOutcome
from nanohost.db.events import ChatKey
from nanohost.delivery.collector import Collector
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import EngageMode, LeaseId, Session, SessionMode, UnknownSender
from nanohost.testing.manual_clock import ManualClock
from nanohost.verify.checks import verify
from nanohost.verify.finding import Finding
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.outbound import OutboundWriter, TurnEnd
from nanohost_protocol.payloads import ChatOut, encode
from nanohost_protocol.rows import MessageIn, NewMessageOut, OutKind, Usage
from tests.support.routers import make_router
from tests.support.template_home import opened_store

IDLE_NAME, BUSY_NAME = "rest", "busy"
LEASE = LeaseId("l-busy")
TURN = "t"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthyHome:
    """A home and its open store. The sessions are as they were when the home was made."""

    home: Home
    store: Store
    mailboxes: Mailboxes
    clock: ManualClock
    idle_session: Session
    busy_session: Session

    def layout(self, session: Session) -> SessionLayout:
        return self.mailboxes.layout(session)

    def run_central_sql(self, sql: str) -> None:
        """Change the central database without its constraints."""
        _run_sql(self.home.database, sql)

    def run_inbound_sql(self, session: Session, sql: str) -> None:
        _run_sql(self.layout(session).inbound_db, sql)

    def run_outbound_sql(self, session: Session, sql: str) -> None:
        _run_sql(self.layout(session).outbound_db, sql)

    async def verify(self, *, host_running: bool = False) -> list[Finding]:
        return await verify(self.store, self.home, clock=self.clock, is_host_running=host_running)


def _run_sql(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA ignore_check_constraints = 1")
        database.executescript(sql)


@asynccontextmanager
async def make_healthy_home(root: Path) -> AsyncIterator[HealthyHome]:
    """The home while entered."""
    clock, home = ManualClock(), Home(root)
    mailboxes = Mailboxes(home.sessions, durable=False, clock=clock)
    async with opened_store(home, durable=False) as store, mailboxes.opened():
        made = [await _make_conversation(store, mailboxes, clock, folder) for folder in (IDLE_NAME, BUSY_NAME)]
        await _answer(store, mailboxes, clock, made[0])
        await _begin(store, mailboxes, clock, made[1])
        rest, busy = [await sessions.get(store, session.id) for session in made]
        yield HealthyHome(
            home=home, store=store, mailboxes=mailboxes, clock=clock, idle_session=rest, busy_session=busy
        )


async def _make_conversation(store: Store, mailboxes: Mailboxes, clock: ManualClock, folder: str) -> Session:
    """Somebody wrote in a chat of the folder's name, and the message is routed."""
    now = clock.now()
    async with store.transaction() as tx:
        group = await agent_groups.add(tx, folder=folder, name=folder, provider=None, model=None, now=now)
        chat = await messaging_groups.add(
            tx,
            channel_type="fake",
            instance="default",
            platform_id=folder,
            is_group=False,
            name=folder,
            unknown_sender=UnknownSender.PUBLIC,
            now=now,
        )
        await wirings.add(
            tx,
            messaging_group=chat.id,
            agent_group=group.id,
            engage_mode=EngageMode.PATTERN,
            engage_pattern=".",
            session_mode=SessionMode.SHARED,
            priority=0,
            now=now,
        )
    await write(store, mailboxes, clock, folder, "p1")
    [session] = [one async for one in sessions.iter_all(store.reports) if one.group_folder == folder]
    return session


async def write(store: Store, mailboxes: Mailboxes, clock: ManualClock, chat: str, message: str) -> None:
    """A message comes in and is routed."""
    event = InboundEvent(
        platform_id=chat,
        platform_message_id=message,
        sender=Sender(handle="ann", name="Ann"),
        text="hi",
        sent_at=clock.now(),
    )
    async with store.transaction() as tx:
        await events.add(tx, ChatKey("fake", "default", chat), event, now=clock.now())
    async with make_router(store, mailboxes, clock).opened():
        pass  # closing waits for the events that were found


async def _pending(mailboxes: Mailboxes, session: Session, clock: ManualClock) -> list[MessageIn]:
    return await mailboxes.read_inbound(session, lambda box: list(box.due(clock.now())))


async def _answer(store: Store, mailboxes: Mailboxes, clock: ManualClock, session: Session) -> None:
    """A stopped runner answered, and the answer was delivered."""
    messages = await _pending(mailboxes, session, clock)
    said = NewMessageOut(
        id="o1", turn_id=TURN, kind=OutKind.CHAT, content=encode(ChatOut(text="yes")), in_reply_to=messages[0].id
    )
    with closing(open_runner_writer(mailboxes.layout(session), "l-gone")) as box:
        box.claim(TURN, messages, clock.now())
        box.finish(
            TurnEnd(turn_id=TURN, messages=[said], usage=Usage()), highest_seen_seq=messages[-1].seq, now=clock.now()
        )
    await Collector(store=store, mailboxes=mailboxes, clock=clock).collect(session.id)
    await _take_acks(store, mailboxes, clock, session)
    [lane] = await deliveries.list_open_queues(store)
    delivery = await deliveries.next_in_queue(store, lane, clock.now())
    assert delivery is not None
    async with store.transaction() as tx:
        await deliveries.begin_attempt(tx, delivery, clock.now())
    sent = AttemptOutcome(status=deliveries.DeliveryStatus.SENT, code="sent", receipt=("p2",))
    async with store.transaction() as tx:
        await deliveries.end_attempt(tx, delivery, sent, clock.now())


async def _take_acks(store: Store, mailboxes: Mailboxes, clock: ManualClock, session: Session) -> None:
    taker = AckProcessor(
        store=store,
        mailboxes=mailboxes,
        clock=clock,
        is_alive=lambda _, __: False,
        was_stopped=lambda _: True,
    )
    await taker.process(session.id)


async def _begin(store: Store, mailboxes: Mailboxes, clock: ManualClock, session: Session) -> None:
    """A container claimed the message and works on it."""
    async with store.transaction() as tx:
        await sessions.set_lease(tx, session.id, LEASE, "paper")
    with closing(open_runner_writer(mailboxes.layout(session), LEASE)) as box:
        box.abandon_stale_claims(clock.now())
        box.claim(TURN, await _pending(mailboxes, session, clock), clock.now())


def open_runner_writer(layout: SessionLayout, lease: str) -> OutboundWriter:
    """The runner's half of a mailbox."""
    return OutboundWriter(layout.outbound_db, container_id=lease, durable=False)
