"""A session above its budget is throttled: none of its rows is lost, and no other session waits."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from nanohost.config.home import Home
from nanohost.db import agent_groups, messaging_groups, roles, sessions, users
from nanohost.db.database import Store
from nanohost.db.domain_events import OutboxNeedsRead
from nanohost.delivery.budget import RowCost, SessionBudget, rate_limits_from_settings
from nanohost.delivery.service import DeliveryService
from nanohost.delivery.settings import DeliverySettings
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import LeaseId, Role, Session, UnknownSender
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.outbound import OutboundWriter
from nanohost_protocol.payloads import ChatIn, ChatOut, EditOut, ReactionOut, SystemOut, encode
from nanohost_protocol.rows import InKind, NewMessageIn, Origin, OutKind
from nanohost_protocol.times import to_text
from tests.support.invariants import wait_until
from tests.support.template_home import opened_store

LEASE = LeaseId("l1")
HELLO = encode(ChatOut(text="hello"))
ASKS = encode(SystemOut(action="tasks.pause", arguments="{}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorHarness:
    store: Store
    mailboxes: Mailboxes
    clock: ManualClock
    delivery: DeliveryService
    session: Session

    def writes(
        self,
        count: int,
        *,
        kind: OutKind = OutKind.CHAT,
        content: str = HELLO,
        after: str | None = None,
        to: str | None = None,
        at: str | None = None,
    ) -> None:
        """Write so many rows as a container could, without the runner's code."""
        path = self.mailboxes.layout(self.session).outbound_db
        with closing(sqlite3.connect(path)) as outbound, outbound:
            (highest,) = outbound.execute("SELECT ifnull(max(seq), -1) FROM messages_out").fetchone()
            outbound.executemany(
                "INSERT INTO messages_out"
                " (seq, id, turn_id, timestamp, kind, content, deliver_after, in_reply_to, destination)"
                " VALUES (?, ?, 't', ?, ?, ?, ?, ?, ?)",
                [
                    (seq, f"o{seq}", at or to_text(self.clock.now()), kind, content, after, "m1", to)
                    for seq in range(highest + 2, highest + 2 + 2 * count, 2)
                ],
            )

    async def entered(self, status: str = "%") -> int:
        row = await self.store.fetch_one(
            "SELECT (SELECT count(*) FROM deliveries WHERE session_id != 'host' AND status LIKE ?1)"
            " + (SELECT count(*) FROM actions WHERE status LIKE ?1) AS found",
            (status,),
        )
        assert row is not None
        return int(row["found"])

    async def looks_until(self, count: int, status: str = "%") -> None:
        """Read until so many rows are entered; fails if they never are."""
        self.store.bus.publish(OutboxNeedsRead(self.session.id))
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while await self.entered(status) < count:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)

    async def owner_heard(self) -> list[str]:
        rows = await self.store.fetch_all("SELECT content FROM deliveries WHERE session_id = 'host' ORDER BY seq")
        return [json.loads(row["content"])["text"] for row in rows]


@asynccontextmanager
async def open_collector(root: Path) -> AsyncIterator[CollectorHarness]:
    """A session with a mailbox, and an owner with a direct chat. Without a channel nothing is sent."""
    clock, home = ManualClock(), Home(root)
    mailboxes = Mailboxes(home.sessions, durable=False)
    async with opened_store(home, durable=False) as store, mailboxes.opened():
        now = clock.now()
        async with store.transaction() as tx:
            group = await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=now)
            chat = await messaging_groups.add(
                tx,
                channel_type="fake",
                instance="default",
                platform_id="c1",
                is_group=False,
                name="c1",
                unknown_sender=UnknownSender.PUBLIC,
                now=now,
            )
            id = await sessions.add(tx, agent_group=group.id, messaging_group=chat.id, thread_id=None, now=now)
            await users.record_seen(tx, "fake:boss", name="Boss", now=now)
            await users.save_dm(tx, "fake:boss", Origin(channel_type="fake", instance="default", platform_id="d"), now)
            await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=now)
        session = await sessions.get(store, id)
        home_chat = Origin(channel_type="fake", instance="default", platform_id="c1")
        content = encode(ChatIn(text="hi", sender="Ann", sender_id="u1"))
        asked = NewMessageIn(id="m1", kind=InKind.CHAT, timestamp=now, content=content, origin=home_chat)
        await mailboxes.put(session, [asked])
        OutboundWriter(mailboxes.layout(session).outbound_db, container_id=LEASE, durable=False).close()
        delivery = DeliveryService(store=store, mailboxes=mailboxes, clock=clock, channels={})
        async with delivery.opened():
            yield CollectorHarness(store=store, mailboxes=mailboxes, clock=clock, delivery=delivery, session=session)


async def test_rows_above_the_budget_stay_in_their_file_and_are_entered_later(tmp_path: Path) -> None:
    async with open_collector(tmp_path) as at:
        at.writes(1_500)
        at.store.bus.publish(OutboxNeedsRead(at.session.id))
        await wait_until(lambda: bool(at.delivery.throttled()))
        assert await at.entered() == 1_200, "a sixth of an hour's 7,200"
        assert at.delivery.throttled() == {at.session.id: "more than 7,200 messages an hour"}
        await advance_until(at, lambda count: count == 1_500)
        await wait_until(lambda: not at.delivery.throttled())
        assert await at.owner_heard() == [
            f"The agent main writes too much in session {at.session.id}: more than 7,200 messages an hour. It is "
            f"slowed down, and nothing is lost. To stop it: nanohost sessions hold {at.session.id}"
        ]


async def test_requests_have_a_separate_budget_and_reads_of_a_flood_become_rarer(tmp_path: Path) -> None:
    async with open_collector(tmp_path) as at:
        at.writes(1_000, kind=OutKind.SYSTEM, content=ASKS)
        at.store.bus.publish(OutboxNeedsRead(at.session.id))
        await wait_until(lambda: bool(at.delivery.throttled()))
        assert await at.entered() == 100, "a sixth of an hour's 600"
        before = at.clock.monotonic()
        await advance_until(at, lambda count: count >= 130, exactly=True)
        assert 150 <= at.clock.monotonic() - before <= 300, "one in six seconds"


async def test_bytes_count_and_a_row_above_the_budget_is_paid_for_afterwards(tmp_path: Path) -> None:
    async with open_collector(tmp_path) as at:
        at.writes(30, content=encode(ChatOut(text="x" * 200_000)))
        at.store.bus.publish(OutboxNeedsRead(at.session.id))
        await wait_until(lambda: bool(at.delivery.throttled()))
        assert await at.entered() == 21, "the last was begun within the 4 MiB that may come at once"
        assert at.delivery.throttled() == {at.session.id: "more than 24 MiB of messages an hour"}


async def test_a_session_with_too_many_open_deliveries_is_read_again_when_they_are_fewer(tmp_path: Path) -> None:
    async with open_collector(tmp_path) as at:
        at.writes(1_100)
        await at.looks_until(1_100)
        await at.clock.advance(600)
        at.writes(1_100)
        at.store.bus.publish(OutboxNeedsRead(at.session.id))
        await wait_until(lambda: bool(at.delivery.throttled()))
        assert await at.entered() == 2_000
        assert at.delivery.throttled() == {at.session.id: "2,000 of its messages and requests wait already"}
        async with at.store.transaction() as tx:
            await tx.execute("UPDATE deliveries SET status = 'dropped' WHERE seq < 1000")
        await advance_until(at, lambda count: count == 2_200)


async def test_a_message_for_more_than_a_year_ahead_is_refused_with_a_reason(tmp_path: Path) -> None:
    async with open_collector(tmp_path) as at:
        at.writes(1, after=to_text(at.clock.now() + timedelta(days=365)))
        at.writes(1, after=to_text(at.clock.now() + timedelta(days=400)), content=encode(ChatOut(text="x" * 9_000)))
        await at.looks_until(2)
        assert (await at.entered("pending"), await at.entered("refused")) == (1, 1)
        row = await at.store.fetch_one("SELECT name, reason, arguments, notice_id FROM actions")
        assert row is not None
        assert row["name"] == "messages.send_later"
        assert "more than a year ahead" in row["reason"]
        assert row["notice_id"], "the agent is to be told"
        assert len(row["arguments"]) == 2_000


async def test_scheduled_messages_are_limited_and_do_not_delay_immediate_ones(
    tmp_path: Path,
) -> None:
    async with open_collector(tmp_path) as at:
        at.writes(510, after=to_text(at.clock.now() + timedelta(days=30)))
        at.writes(1)
        await at.looks_until(511)
        assert (await at.entered(), await at.entered("refused")) == (511, 10)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param({"content": "no JSON"}, id="content that is none"),
        pytest.param({"to": "nobody"}, id="a destination that there is not"),
        pytest.param({"at": "yesterday"}, id="a malformed row"),
        pytest.param({"kind": OutKind.EDIT, "content": encode(EditOut(message=99, text="x"))}, id="an edit of nothing"),
        pytest.param(
            {"kind": OutKind.REACTION, "content": encode(ReactionOut(message=99, emoji="x"))}, id="a reaction"
        ),
        pytest.param({"after": "2030-01-01T00:00:00.000000Z"}, id="a time after a year"),
    ],
)
async def test_a_refused_or_dropped_row_costs_as_much_as_a_request(tmp_path: Path, rows: dict[str, Any]) -> None:
    async with open_collector(tmp_path) as at:
        at.writes(150, **rows)
        at.store.bus.publish(OutboxNeedsRead(at.session.id))
        await wait_until(lambda: bool(at.delivery.throttled()))
        assert await at.entered() == 100, "a sixth of an hour's 600"
        assert at.delivery.throttled() == {at.session.id: "more than 600 requests and refused messages an hour"}
        await advance_until(at, lambda count: count == 150)


async def test_scheduled_messages_above_the_limit_cost_as_much_as_a_request(tmp_path: Path) -> None:
    async with open_collector(tmp_path) as at:
        at.writes(650, after=to_text(at.clock.now() + timedelta(days=30)))
        at.store.bus.publish(OutboxNeedsRead(at.session.id))
        await wait_until(lambda: bool(at.delivery.throttled()))
        assert (await at.entered("pending"), await at.entered("refused")) == (500, 100)


async def test_valid_messages_behind_refused_ones_are_entered_when_the_budget_refills(tmp_path: Path) -> None:
    async with open_collector(tmp_path) as at:
        at.writes(110, content="no JSON")
        at.writes(5)
        at.store.bus.publish(OutboxNeedsRead(at.session.id))
        await wait_until(lambda: bool(at.delivery.throttled()))
        assert await at.entered("pending") == 0, "the order of rows is the order of the conversation"
        await advance_until(at, lambda count: count == 115)
        assert await at.entered("dropped") == 110, "and five are sent, or wait for that"


async def test_a_dropped_row_keeps_only_the_beginning_of_its_content(tmp_path: Path) -> None:
    async with open_collector(tmp_path) as at:
        at.writes(1, content="no JSON " * 10_000)
        await at.looks_until(1, "dropped")
        row = await at.store.fetch_one("SELECT length(content) AS size FROM deliveries WHERE status = 'dropped'")
        assert row is not None
        assert row["size"] == 2_000


async def advance_until(at: CollectorHarness, enough: Callable[[int], bool], *, exactly: bool = False) -> None:
    """Advance the clock by seconds until so many rows are entered. `exactly`: only while the collector pauses, which is
    visible where nothing else waits for the clock."""
    while not enough(await at.entered()):
        if exactly:
            await at.clock.wait_for_sleeper()
        await at.clock.advance(1.0)
        await asyncio.sleep(0.02)  # another process does the read
        assert at.clock.monotonic() < 10_000, f"only {await at.entered()} are entered"


def test_a_budget_is_idle_once_it_has_refilled() -> None:
    budget = SessionBudget(rate_limits_from_settings(DeliverySettings()), 0.0)
    assert budget.is_full(0.0)
    budget.consume([RowCost(100, is_request=False)] * 7, 0.0)
    assert not budget.is_full(1.0)
    assert budget.is_full(10.0)
    budget.reason = "too much"
    assert not budget.is_full(3600.0)
