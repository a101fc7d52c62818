"""Retention: old settled rows are deleted, open rows and those that recognise repeats are kept, and verify passes."""

from __future__ import annotations

import asyncio
import os

import pytest

from nanohost.channel_api import InboundEvent, Sender
from nanohost.db import deliveries, events, model_calls
from nanohost.db.deliveries import Delivery, DeliveryQueueKey, DeliveryStatus
from nanohost.db.domain_events import QueueHasWork
from nanohost.db.events import ChatKey
from nanohost.delivery.collector import Collector
from nanohost.mailbox.session_dirs import attachment_dir
from nanohost.maintenance.retention import INITIAL_DELAY_S, INTERVAL_S, Retention
from nanohost.model import Session, SessionId
from nanohost.runtimes.session_folders import container_log_path
from tests.support.recorded_events import record_events
from tests.support.routers import make_router
from tests.verify.healthy import BUSY_NAME, IDLE_NAME, HealthyHome, write

pytestmark = pytest.mark.behaviour("OP-02")

MONTHS_S = 90 * 86400.0


def upkeep(bench: HealthyHome, *, keep_days: int = 30) -> Retention:
    return Retention(store=bench.store, mailboxes=bench.mailboxes, clock=bench.clock, keep_days=keep_days)


async def count(bench: HealthyHome, what: str) -> int:
    row = await bench.store.fetch_one(f"SELECT count(*) AS n FROM {what}")
    assert row is not None
    return int(row["n"])


async def seqs(bench: HealthyHome, session: Session) -> list[int]:
    found = await bench.mailboxes.read_inbound(
        session, lambda box: box.closed_before(bench.clock.now(), after=0, limit=99)
    )
    return list(found)


async def in_the_past(bench: HealthyHome, chat: str, *names: str) -> None:
    """Messages that were written, routed and closed."""
    for name in names:
        await write(bench.store, bench.mailboxes, bench.clock, chat, name)
    bench.run_inbound_sql(bench.idle_session, "UPDATE messages_in SET status = 'completed'")
    bench.run_central_sql(f"UPDATE sessions SET due_at = NULL WHERE id = '{bench.idle_session.id}'")


async def test_old_settled_rows_are_deleted_and_verify_finds_no_problem(home_fixture: HealthyHome) -> None:
    await in_the_past(home_fixture, IDLE_NAME, "p2", "p3", "p4")
    before = await count(home_fixture, "inbound_events")
    await home_fixture.clock.advance(MONTHS_S)
    await upkeep(home_fixture).run_once()
    assert (before, await count(home_fixture, "inbound_events")) == (5, 2)
    assert await count(home_fixture, "routes") == 2
    assert await count(home_fixture, "deliveries") == await count(home_fixture, "delivery_attempts") == 0
    assert await seqs(home_fixture, home_fixture.idle_session) == []
    assert await home_fixture.verify() == []


async def test_recent_rows_are_kept(home_fixture: HealthyHome) -> None:
    await in_the_past(home_fixture, IDLE_NAME, "p2", "p3")
    await home_fixture.clock.advance(29 * 86400)
    await upkeep(home_fixture).run_once()
    assert await count(home_fixture, "inbound_events") == 4
    assert await count(home_fixture, "deliveries") == 1


async def test_retention_without_a_limit_deletes_nothing(home_fixture: HealthyHome) -> None:
    await home_fixture.clock.advance(10 * MONTHS_S)
    await upkeep(home_fixture, keep_days=0).run_once()
    assert await count(home_fixture, "deliveries") == 1


async def test_a_repeated_event_is_recognised_for_thirty_days_however_short_the_retention(
    home_fixture: HealthyHome,
) -> None:
    await in_the_past(home_fixture, IDLE_NAME, "p2")
    await home_fixture.clock.advance(29 * 86400)
    await upkeep(home_fixture, keep_days=1).run_once()
    assert await count(home_fixture, "deliveries") == 0
    again = InboundEvent(
        platform_id=IDLE_NAME,
        platform_message_id="p1",
        sender=Sender(handle="ann", name="Ann"),
        text="hi",
        sent_at=home_fixture.clock.now(),
    )
    async with home_fixture.store.transaction() as tx:
        assert not await events.add(tx, ChatKey("fake", "default", IDLE_NAME), again, now=home_fixture.clock.now())


async def test_open_work_is_kept_however_old_it_is(home_fixture: HealthyHome) -> None:
    await write(home_fixture.store, home_fixture.mailboxes, home_fixture.clock, BUSY_NAME, "p2")
    home_fixture.run_central_sql(
        f"UPDATE deliveries SET status = 'unknown' WHERE session_id = '{home_fixture.idle_session.id}'"
    )
    home_fixture.run_central_sql("UPDATE inbound_events SET status = 'set_aside' WHERE platform_message_id = 'p2'")
    await home_fixture.clock.advance(MONTHS_S)
    await upkeep(home_fixture).run_once()
    assert await count(home_fixture, "deliveries") == 1
    assert await count(home_fixture, "inbound_events WHERE status = 'set_aside'") == 1
    pending = await home_fixture.mailboxes.read_inbound(
        home_fixture.busy_session, lambda box: [m.id for m in box.due(home_fixture.clock.now())]
    )
    assert len(pending) == 2


async def test_a_notice_is_deleted_only_when_nothing_it_may_be_about_is_left(home_fixture: HealthyHome) -> None:
    for session in (home_fixture.idle_session, home_fixture.busy_session):
        await _notice(home_fixture, session.id)
    await home_fixture.clock.advance(MONTHS_S)
    await upkeep(home_fixture).run_once()
    left = await home_fixture.store.fetch_all("SELECT session_id FROM deliveries WHERE seq < 0")
    assert [row["session_id"] for row in left] == [home_fixture.busy_session.id]


async def test_sequence_numbers_are_not_reused_after_retention(home_fixture: HealthyHome) -> None:
    await in_the_past(home_fixture, IDLE_NAME, "p2")
    await home_fixture.clock.advance(MONTHS_S)
    await upkeep(home_fixture).run_once()
    await write(home_fixture.store, home_fixture.mailboxes, home_fixture.clock, IDLE_NAME, "p9")
    [message] = await home_fixture.mailboxes.read_inbound(
        home_fixture.idle_session, lambda box: list(box.due(home_fixture.clock.now()))
    )
    latest = await home_fixture.store.fetch_one(
        "SELECT max(id) AS id FROM inbound_events WHERE platform_message_id != 'p9'"
    )
    mine = await home_fixture.store.fetch_one("SELECT id FROM inbound_events WHERE platform_message_id = 'p9'")
    assert latest is not None
    assert mine is not None
    assert message.seq > 4
    assert mine["id"] > latest["id"] > 0


async def test_daily_totals_of_model_calls_remain_after_their_deletion(home_fixture: HealthyHome) -> None:
    for status in (200, 500):
        async with home_fixture.store.transaction() as tx:
            await model_calls.add(
                tx,
                session=home_fixture.idle_session.id,
                model="m",
                started_at=home_fixture.clock.now(),
                duration_ms=1,
                status=status,
                tokens_in=3,
                tokens_out=4,
                tokens_cached=0,
                tokens_cache_written=0,
                error=None,
                cost_usd=0.5 if status == 200 else None,
            )
    before = await model_calls.totals(home_fixture.store.reports)
    await home_fixture.clock.advance(MONTHS_S)
    await upkeep(home_fixture).run_once()
    assert await count(home_fixture, "model_calls") == 0
    assert await model_calls.totals(home_fixture.store.reports) == before
    assert before == {"calls": 2, "tokens_in": 6, "tokens_out": 8, "cost_usd": 0.5, "unpriced": 1}
    [day] = await home_fixture.store.fetch_all("SELECT agent_group, model, calls, failed FROM model_calls_by_day")
    assert tuple(day) == (IDLE_NAME, "m", 2, 1)


async def test_task_runs_are_deleted_except_the_latest_and_a_finished_task_with_all_its_runs(
    home_fixture: HealthyHome,
) -> None:
    for task, status in (("t1", "active"), ("t2", "cancelled"), ("t3", "active")):
        home_fixture.run_central_sql(
            "INSERT INTO tasks (id, session_id, kind, content, timezone, next_due, status, misfire, created_by,"
            f" created_at, changed_at) SELECT '{task}', id, 'agent', 'x', 'UTC', '2027', '{status}', 'skip', 'a',"
            f" created_at, created_at FROM sessions WHERE id = '{home_fixture.idle_session.id}'"
        )
        for due in (1, 2, 3):
            home_fixture.run_central_sql(
                "INSERT INTO task_runs (task_id, session_id, due, message_id, decided_at, ended_at, outcome)"
                f" SELECT '{task}', id, '{due}', '{task}-{due}', created_at, created_at, 'skipped'"
                f" FROM sessions WHERE id = '{home_fixture.idle_session.id}'"
            )
    home_fixture.run_central_sql("UPDATE task_runs SET ended_at = NULL, outcome = NULL WHERE message_id = 't3-1'")
    await home_fixture.clock.advance(MONTHS_S)
    await upkeep(home_fixture).run_once()
    left = await home_fixture.store.fetch_all("SELECT message_id FROM task_runs ORDER BY message_id")
    assert [row["message_id"] for row in left] == ["t1-3", "t3-1", "t3-3"]
    assert [row["id"] for row in await home_fixture.store.fetch_all("SELECT id FROM tasks ORDER BY id")] == ["t1", "t3"]


async def test_an_old_container_log_is_emptied_unless_the_container_may_be_running(home_fixture: HealthyHome) -> None:
    for session in (home_fixture.idle_session, home_fixture.busy_session):
        log = container_log_path(home_fixture.layout(session).root)
        log.write_text("said")
        os.utime(log, (0, 0))
    await upkeep(home_fixture).run_once()
    assert container_log_path(home_fixture.layout(home_fixture.idle_session).root).read_text() == ""
    assert container_log_path(home_fixture.layout(home_fixture.busy_session).root).read_text() == "said"


async def test_a_damaged_mailbox_does_not_block_retention_of_others(home_fixture: HealthyHome) -> None:
    home_fixture.run_inbound_sql(home_fixture.busy_session, "PRAGMA user_version = 99")
    await home_fixture.clock.advance(MONTHS_S)
    await upkeep(home_fixture).run_once()
    assert await count(home_fixture, "deliveries") == 0


async def test_more_than_one_batch_is_deleted_in_a_day(home_fixture: HealthyHome) -> None:
    now = home_fixture.clock.now()
    chat = ChatKey("fake", "default", "stranger")
    async with home_fixture.store.transaction() as tx:
        for number in range(450):
            event = InboundEvent(
                platform_id=chat.platform_id,
                platform_message_id=str(number),
                sender=Sender(handle="x", name="X"),
                text="spam",
                sent_at=now,
            )
            await events.add(tx, chat, event, now=now, drop_reason="no wiring")
    await home_fixture.clock.advance(MONTHS_S)
    await upkeep(home_fixture).run_once()
    assert await count(home_fixture, "inbound_events WHERE status = 'dropped'") == 1


async def test_reading_again_after_retention_finds_nothing_new(home_fixture: HealthyHome) -> None:
    await home_fixture.clock.advance(MONTHS_S)
    await upkeep(home_fixture).run_once()
    told = record_events(home_fixture.store.bus, QueueHasWork)
    await Collector(store=home_fixture.store, mailboxes=home_fixture.mailboxes, clock=home_fixture.clock).collect(
        home_fixture.idle_session.id
    )
    async with make_router(home_fixture.store, home_fixture.mailboxes, home_fixture.clock).opened():
        pass
    assert await count(home_fixture, "deliveries") == 0
    assert told == []
    assert await home_fixture.verify() == []


async def test_retention_starts_after_a_delay_and_repeats_daily(home_fixture: HealthyHome) -> None:
    await home_fixture.clock.advance(MONTHS_S)
    serving = asyncio.create_task(upkeep(home_fixture).run())
    await home_fixture.clock.wait_for_sleeper()
    assert home_fixture.clock.remaining_sleeps_s() == (INITIAL_DELAY_S,)
    await home_fixture.clock.advance(INITIAL_DELAY_S)
    await home_fixture.clock.wait_for_sleeper()
    assert home_fixture.clock.remaining_sleeps_s() == (INTERVAL_S,)
    assert await count(home_fixture, "deliveries") == 0
    serving.cancel()


async def _notice(bench: HealthyHome, session: SessionId) -> None:
    now = bench.clock.now()
    said = Delivery(
        queue=DeliveryQueueKey(session, "fake", "default", "c"),
        seq=-128,
        out_id=f"n-{session}",
        kind="chat",
        thread_id=None,
        reply_to=None,
        content="{}",
        status=DeliveryStatus.DROPPED,
        created_at=now,
    )
    async with bench.store.transaction() as tx:
        await deliveries.add(tx, said)


@pytest.mark.behaviour("IN-06")
async def test_attachments_are_deleted_with_their_message(home_fixture: HealthyHome) -> None:
    await in_the_past(home_fixture, IDLE_NAME, "p2", "p3")
    rows = await home_fixture.store.fetch_all(
        "SELECT message_id FROM routes WHERE session_id = ? ORDER BY event_id", (home_fixture.idle_session.id,)
    )
    folders = [
        attachment_dir(home_fixture.mailboxes.layout(home_fixture.idle_session), row["message_id"]) for row in rows
    ]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("hello")
    await home_fixture.clock.advance(MONTHS_S)
    await upkeep(home_fixture).run_once()
    assert [folder.exists() for folder in folders] == [False] * (len(folders) - 1) + [True], "the latest stays"
