"""Upkeep: what was settled long ago goes, what is open or keeps repetitions harmless stays, and all is in order."""

from __future__ import annotations

import asyncio
import os

import pytest

from nanohost.channel_api import InboundEvent, Sender
from nanohost.delivery.collector import Collector
from nanohost.mailbox.paths import inbox_of
from nanohost.model import Session, SessionId
from nanohost.runtimes.folders import container_log
from nanohost.store import deliveries, events, model_calls
from nanohost.store.deliveries import Delivery, DeliveryStatus, LaneKey
from nanohost.store.domain_events import LaneHasWork
from nanohost.store.events import ChatKey
from nanohost.upkeep.upkeep import FIRST_S, INTERVAL_S, Upkeep
from tests.support.desks import router_of
from tests.support.heard import heard
from tests.verify.healthy import BUSY, REST, Bench, write

pytestmark = pytest.mark.behaviour("OP-02")

MONTHS_S = 90 * 86400.0


def upkeep(bench: Bench, *, keep_days: int = 30) -> Upkeep:
    return Upkeep(store=bench.store, mailboxes=bench.mailboxes, clock=bench.clock, keep_days=keep_days)


async def count(bench: Bench, what: str) -> int:
    row = await bench.store.one(f"SELECT count(*) AS n FROM {what}")
    assert row is not None
    return int(row["n"])


async def seqs(bench: Bench, session: Session) -> list[int]:
    found = await bench.mailboxes.inbound(session, lambda box: box.closed_before(bench.clock.now(), after=0, limit=99))
    return list(found)


async def in_the_past(bench: Bench, chat: str, *names: str) -> None:
    """Messages that were written, routed and closed."""
    for name in names:
        await write(bench.store, bench.mailboxes, bench.clock, chat, name)
    bench.inbound(bench.rest, "UPDATE messages_in SET status = 'completed'")
    bench.central(f"UPDATE sessions SET due_at = NULL WHERE id = '{bench.rest.id}'")


async def test_what_was_settled_long_ago_goes_and_everything_is_in_order_after_it(bench: Bench) -> None:
    await in_the_past(bench, REST, "p2", "p3", "p4")
    before = await count(bench, "inbound_events")
    await bench.clock.advance(MONTHS_S)
    await upkeep(bench).tidy()
    assert (before, await count(bench, "inbound_events")) == (5, 2)
    assert await count(bench, "routes") == 2
    assert await count(bench, "deliveries") == await count(bench, "delivery_attempts") == 0
    assert await seqs(bench, bench.rest) == []
    assert await bench.verify() == []


async def test_what_is_young_stays(bench: Bench) -> None:
    await in_the_past(bench, REST, "p2", "p3")
    await bench.clock.advance(29 * 86400)
    await upkeep(bench).tidy()
    assert await count(bench, "inbound_events") == 4
    assert await count(bench, "deliveries") == 1


async def test_for_ever_means_for_ever(bench: Bench) -> None:
    await bench.clock.advance(10 * MONTHS_S)
    await upkeep(bench, keep_days=0).tidy()
    assert await count(bench, "deliveries") == 1


async def test_a_platform_that_delivers_an_event_again_is_known_for_thirty_days_however_little_is_kept(
    bench: Bench,
) -> None:
    await in_the_past(bench, REST, "p2")
    await bench.clock.advance(29 * 86400)
    await upkeep(bench, keep_days=1).tidy()
    assert await count(bench, "deliveries") == 0
    again = InboundEvent(
        platform_id=REST,
        platform_message_id="p1",
        sender=Sender(handle="ann", name="Ann"),
        text="hi",
        sent_at=bench.clock.now(),
    )
    async with bench.store.transaction() as tx:
        assert not await events.add(tx, ChatKey("fake", "default", REST), again, now=bench.clock.now())


async def test_open_work_stays_however_old_it_is(bench: Bench) -> None:
    await write(bench.store, bench.mailboxes, bench.clock, BUSY, "p2")
    bench.central(f"UPDATE deliveries SET status = 'unknown' WHERE session_id = '{bench.rest.id}'")
    bench.central("UPDATE inbound_events SET status = 'set_aside' WHERE platform_message_id = 'p2'")
    await bench.clock.advance(MONTHS_S)
    await upkeep(bench).tidy()
    assert await count(bench, "deliveries") == 1
    assert await count(bench, "inbound_events WHERE status = 'set_aside'") == 1
    pending = await bench.mailboxes.inbound(bench.busy, lambda box: [m.id for m in box.due(bench.clock.now())])
    assert len(pending) == 2


async def test_a_notice_goes_only_when_nothing_is_left_that_it_could_be_about(bench: Bench) -> None:
    for session in (bench.rest, bench.busy):
        await _notice(bench, session.id)
    await bench.clock.advance(MONTHS_S)
    await upkeep(bench).tidy()
    left = await bench.store.all("SELECT session_id FROM deliveries WHERE seq < 0")
    assert [row["session_id"] for row in left] == [bench.busy.id]


async def test_numbers_do_not_go_back(bench: Bench) -> None:
    await in_the_past(bench, REST, "p2")
    await bench.clock.advance(MONTHS_S)
    await upkeep(bench).tidy()
    await write(bench.store, bench.mailboxes, bench.clock, REST, "p9")
    [message] = await bench.mailboxes.inbound(bench.rest, lambda box: list(box.due(bench.clock.now())))
    latest = await bench.store.one("SELECT max(id) AS id FROM inbound_events WHERE platform_message_id != 'p9'")
    mine = await bench.store.one("SELECT id FROM inbound_events WHERE platform_message_id = 'p9'")
    assert latest is not None
    assert mine is not None
    assert message.seq > 4
    assert mine["id"] > latest["id"] > 0


async def test_what_model_calls_used_is_known_after_they_are_gone(bench: Bench) -> None:
    for status in (200, 500):
        async with bench.store.transaction() as tx:
            await model_calls.add(
                tx,
                session=bench.rest.id,
                model="m",
                started_at=bench.clock.now(),
                duration_ms=1,
                status=status,
                tokens_in=3,
                tokens_out=4,
                tokens_cached=0,
                tokens_cache_written=0,
                error=None,
                cost_usd=0.5 if status == 200 else None,
            )
    before = await model_calls.totals(bench.store.reports)
    await bench.clock.advance(MONTHS_S)
    await upkeep(bench).tidy()
    assert await count(bench, "model_calls") == 0
    assert await model_calls.totals(bench.store.reports) == before
    assert before == {"calls": 2, "tokens_in": 6, "tokens_out": 8, "cost_usd": 0.5, "unpriced": 1}
    [day] = await bench.store.all("SELECT agent_group, model, calls, failed FROM model_calls_by_day")
    assert tuple(day) == (REST, "m", 2, 1)


async def test_runs_of_tasks_go_save_the_latest_and_a_task_that_is_over_goes_with_all_of_them(bench: Bench) -> None:
    for task, status in (("t1", "active"), ("t2", "cancelled"), ("t3", "active")):
        bench.central(
            "INSERT INTO tasks (id, session_id, kind, content, timezone, next_due, status, misfire, created_by,"
            f" created_at, changed_at) SELECT '{task}', id, 'agent', 'x', 'UTC', '2027', '{status}', 'skip', 'a',"
            f" created_at, created_at FROM sessions WHERE id = '{bench.rest.id}'"
        )
        for due in (1, 2, 3):
            bench.central(
                "INSERT INTO task_runs (task_id, session_id, due, message_id, decided_at, ended_at, outcome)"
                f" SELECT '{task}', id, '{due}', '{task}-{due}', created_at, created_at, 'skipped'"
                f" FROM sessions WHERE id = '{bench.rest.id}'"
            )
    bench.central("UPDATE task_runs SET ended_at = NULL, outcome = NULL WHERE message_id = 't3-1'")
    await bench.clock.advance(MONTHS_S)
    await upkeep(bench).tidy()
    left = await bench.store.all("SELECT message_id FROM task_runs ORDER BY message_id")
    assert [row["message_id"] for row in left] == ["t1-3", "t3-1", "t3-3"]
    assert [row["id"] for row in await bench.store.all("SELECT id FROM tasks ORDER BY id")] == ["t1", "t3"]


async def test_what_a_container_said_long_ago_is_emptied_unless_it_may_be_alive(bench: Bench) -> None:
    for session in (bench.rest, bench.busy):
        log = container_log(bench.layout(session).root)
        log.write_text("said")
        os.utime(log, (0, 0))
    await upkeep(bench).tidy()
    assert container_log(bench.layout(bench.rest).root).read_text() == ""
    assert container_log(bench.layout(bench.busy).root).read_text() == "said"


async def test_a_mailbox_that_refuses_holds_up_no_other(bench: Bench) -> None:
    bench.inbound(bench.busy, "PRAGMA user_version = 99")
    await bench.clock.advance(MONTHS_S)
    await upkeep(bench).tidy()
    assert await count(bench, "deliveries") == 0


async def test_more_than_a_batch_goes_in_one_day(bench: Bench) -> None:
    now = bench.clock.now()
    chat = ChatKey("fake", "default", "stranger")
    async with bench.store.transaction() as tx:
        for number in range(450):
            event = InboundEvent(
                platform_id=chat.platform_id,
                platform_message_id=str(number),
                sender=Sender(handle="x", name="X"),
                text="spam",
                sent_at=now,
            )
            await events.add(tx, chat, event, now=now, dropped="no wiring")
    await bench.clock.advance(MONTHS_S)
    await upkeep(bench).tidy()
    assert await count(bench, "inbound_events WHERE status = 'dropped'") == 1


async def test_a_host_that_looks_again_finds_nothing_new(bench: Bench) -> None:
    await bench.clock.advance(MONTHS_S)
    await upkeep(bench).tidy()
    told = heard(bench.store.bus, LaneHasWork)
    await Collector(store=bench.store, mailboxes=bench.mailboxes, clock=bench.clock).collect(bench.rest.id)
    async with router_of(bench.store, bench.mailboxes, bench.clock).opened():
        pass
    assert await count(bench, "deliveries") == 0
    assert told == []
    assert await bench.verify() == []


async def test_the_service_begins_after_a_while_and_comes_back_a_day_later(bench: Bench) -> None:
    await bench.clock.advance(MONTHS_S)
    serving = asyncio.create_task(upkeep(bench).serve())
    await bench.clock.somebody_sleeps()
    assert bench.clock.sleeping() == (FIRST_S,)
    await bench.clock.advance(FIRST_S)
    await bench.clock.somebody_sleeps()
    assert bench.clock.sleeping() == (INTERVAL_S,)
    assert await count(bench, "deliveries") == 0
    serving.cancel()


async def _notice(bench: Bench, session: SessionId) -> None:
    now = bench.clock.now()
    said = Delivery(
        lane=LaneKey(session, "fake", "default", "c"),
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
async def test_files_that_people_sent_go_with_their_message(bench: Bench) -> None:
    await in_the_past(bench, REST, "p2", "p3")
    rows = await bench.store.all(
        "SELECT message_id FROM routes WHERE session_id = ? ORDER BY event_id", (bench.rest.id,)
    )
    folders = [inbox_of(bench.mailboxes.layout(bench.rest), row["message_id"]) for row in rows]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("hello")
    await bench.clock.advance(MONTHS_S)
    await upkeep(bench).tidy()
    assert [folder.exists() for folder in folders] == [False] * (len(folders) - 1) + [True], "the latest stays"
