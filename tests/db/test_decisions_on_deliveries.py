"""An operator's decision about a delivery, in the ledger; and the migration for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from nanohost.config.shipped import shipped_root
from nanohost.db import deliveries, status_counts
from nanohost.db.database import Store
from nanohost.db.deliveries import AttemptOutcome, Delivery, DeliveryDecision, DeliveryStatus
from nanohost.db.migrations import load_migrations, migrate
from nanohost_protocol.times import to_text
from tests.db.test_entities import LATER, NOON, a_delivery, a_session

NOT_SENT = AttemptOutcome(status=DeliveryStatus.PENDING, code="not_sent", reason="not_sent: x", error="x")


async def settled_delivery(store: Store, status: DeliveryStatus, *, seq: int = 1) -> Delivery:
    """A delivery with this status after one attempt."""
    delivery = a_delivery(await a_session(store), seq)
    async with store.transaction() as tx:
        await deliveries.add(tx, delivery)
        if status is not DeliveryStatus.PENDING:
            assert await deliveries.begin_attempt(tx, delivery, NOON)
            outcome = AttemptOutcome(status=status, code="ambiguous", reason="why")
            await deliveries.end_attempt(tx, delivery, outcome, NOON)
    return delivery


async def state(store: Store, delivery: Delivery) -> Delivery:
    found = await deliveries.find(store, delivery.queue.session_id, delivery.seq)
    assert found is not None
    return found


@pytest.mark.behaviour("DL-03", "DL-05")
@pytest.mark.parametrize(
    ("status", "may_resend", "may_drop"),
    [
        (DeliveryStatus.PENDING, False, True),
        (DeliveryStatus.SENT, False, False),
        (DeliveryStatus.DEAD, True, True),
        (DeliveryStatus.UNKNOWN, True, True),
        (DeliveryStatus.DROPPED, False, False),
    ],
)
async def test_the_permitted_decisions_depend_on_the_delivery_status(
    store: Store, status: DeliveryStatus, may_resend: bool, may_drop: bool
) -> None:
    delivery = await settled_delivery(store, status)
    async with store.transaction() as tx:
        assert await deliveries.drop(tx, delivery, "no more", LATER) is may_drop
    async with store.transaction() as tx:
        assert await deliveries.resend(tx, delivery, LATER) is (may_resend or may_drop), "a drop can be taken back"


@pytest.mark.behaviour("OP-01")
async def test_an_outage_is_judged_by_attempts_since_the_resend(store: Store) -> None:
    down = AttemptOutcome(status=DeliveryStatus.PENDING, code="down", reason="down: it is out of order", error="x")
    busy = AttemptOutcome(status=DeliveryStatus.PENDING, code="rate_limited", reason="rate_limited: busy", error="x")

    async def tried(delivery: Delivery, outcome: AttemptOutcome, at: datetime) -> None:
        async with store.transaction() as tx:
            assert await deliveries.begin_attempt(tx, delivery, at)
            await deliveries.end_attempt(tx, delivery, outcome, at)

    async def named(now: datetime) -> list[tuple[object, ...]]:
        found = (await status_counts.lists(store.reports, now))["platforms_down"]
        return [(one["channel"], one["since"], one["messages"], one["reason"]) for one in found]

    delivery = a_delivery(await a_session(store), 1)
    async with store.transaction() as tx:
        await deliveries.add(tx, delivery)
        await deliveries.add(tx, replace(delivery, seq=3, out_id="o3"))
    await tried(delivery, down, NOON)
    assert await named(NOON + status_counts.DOWN_AFTER) == [("fake:main", to_text(NOON), 2, down.reason)]
    await tried(delivery, replace(down, status=DeliveryStatus.DEAD), NOON)
    async with store.transaction() as tx:
        assert await deliveries.resend(tx, delivery, LATER)
    assert await named(LATER + status_counts.DOWN_AFTER) == []
    delivery = await state(store, delivery)
    await tried(delivery, down, LATER)
    assert await named(LATER + status_counts.DOWN_AFTER / 2) == []
    assert await named(LATER + status_counts.DOWN_AFTER) == [("fake:main", to_text(LATER), 2, down.reason)]
    await tried(delivery, busy, LATER)
    assert await named(LATER + status_counts.DOWN_AFTER) == [], "it answers"


async def test_a_delivery_being_sent_cannot_be_decided(store: Store) -> None:
    delivery = await settled_delivery(store, DeliveryStatus.PENDING)
    async with store.transaction() as tx:
        assert await deliveries.begin_attempt(tx, delivery, NOON)
        assert not await deliveries.drop(tx, delivery, "no more", LATER)
        assert not await deliveries.resend(tx, delivery, LATER)


async def test_a_delivery_dropped_meanwhile_is_not_begun(store: Store) -> None:
    delivery = await settled_delivery(store, DeliveryStatus.PENDING)
    async with store.transaction() as tx:
        assert await deliveries.drop(tx, delivery, "no more", LATER)
        assert not await deliveries.begin_attempt(tx, delivery, LATER)
    found = await state(store, delivery)
    assert (found.status, found.reason, found.decision) == (DeliveryStatus.DROPPED, "no more", DeliveryDecision.DROP)
    assert await deliveries.list_attempts(store, found) == []


@pytest.mark.behaviour("DL-02", "DL-03")
async def test_a_resent_delivery_has_all_its_tries_again_and_keeps_its_attempts(store: Store) -> None:
    delivery = await settled_delivery(store, DeliveryStatus.PENDING)
    for _ in range(6):
        async with store.transaction() as tx:
            await deliveries.begin_attempt(tx, delivery, NOON)
            await deliveries.end_attempt(tx, delivery, NOT_SENT, NOON)
    dead = AttemptOutcome(status=DeliveryStatus.DEAD, code="not_sent", reason="not_sent: x")
    async with store.transaction() as tx:
        await deliveries.end_attempt(tx, delivery, dead, NOON)
        assert await deliveries.resend(tx, delivery, LATER)
    again = await state(store, delivery)
    assert (again.status, again.reason, again.next_attempt_at) == (DeliveryStatus.PENDING, None, None)
    assert await deliveries.count_attempts(store, again) == 0
    async with store.transaction() as tx:
        await deliveries.begin_attempt(tx, again, LATER)
    assert await deliveries.count_attempts(store, again) == 1
    assert [attempt.number for attempt in await deliveries.list_attempts(store, again)] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.behaviour("DL-05")
async def test_a_delivery_with_unknown_status_does_not_block_its_queue(store: Store) -> None:
    held = await settled_delivery(store, DeliveryStatus.UNKNOWN)
    async with store.transaction() as tx:
        await deliveries.add(tx, a_delivery(held.queue.session_id, 2))
    following = await deliveries.next_in_queue(store, held.queue, NOON)
    assert following is not None
    assert following.seq == 2


def test_the_migration_keeps_every_delivery_and_its_attempts(tmp_path: Path) -> None:
    database, backups = tmp_path / "nanohost.db", tmp_path / "backups"
    everything = load_migrations([shipped_root() / "migrations"])
    migrate(database, [each for each in everything if each.name < "0003"], backups=backups)
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.executescript("""
            INSERT INTO agent_groups VALUES (1, 'main', 'main', NULL, NULL, 't');
            INSERT INTO sessions (id, agent_group_id, created_at, last_active_at) VALUES ('s1', 1, 't', 't');
            INSERT INTO deliveries VALUES ('s1', 1, 'o1', 'chat', 'fake', 'default', 'c1', 'th', '7', '{}', 'dead', 2,
                NULL, 'refused: x', '["9"]', 't1', 't2');
            INSERT INTO deliveries VALUES ('s1', -3, 'n', 'chat', 'fake', 'default', 'c1', NULL, NULL, '{}', 'pending',
                0, 't3', NULL, '[]', 't1', 't1');
            INSERT INTO delivery_attempts VALUES ('s1', 1, 1, 't', 't', 'not_sent', 'x');
            INSERT INTO delivery_attempts VALUES ('s1', 1, 2, 't', 't', 'refused', 'y');
        """)
        columns = [row[1] for row in db.execute("PRAGMA table_info(deliveries)")]
        shown = f"SELECT {', '.join(columns)} FROM deliveries ORDER BY seq"
        before = db.execute(shown).fetchall(), db.execute("SELECT * FROM delivery_attempts").fetchall()
    [applied] = migrate(database, [each for each in everything if each.name < "0004"], backups=backups)
    assert applied.name == "0003_unknown_deliveries"
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = ON")
        assert (db.execute(shown).fetchall(), db.execute("SELECT * FROM delivery_attempts").fetchall()) == before
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        with pytest.raises(sqlite3.IntegrityError):
            db.execute("INSERT INTO delivery_attempts VALUES ('s1', 99, 1, 't', 't', 'sent', NULL)")
        db.execute("UPDATE deliveries SET status = 'unknown'")


@pytest.mark.behaviour("DL-02")
async def test_an_attempt_does_not_begin_for_a_delivery_that_has_changed_since_it_was_read(store: Store) -> None:
    stored = await settled_delivery(store, DeliveryStatus.PENDING)
    elsewhere = replace(stored.queue, platform_id="moved")
    async with store.transaction() as tx:
        for stale in (
            replace(stored, queue=elsewhere),
            replace(stored, thread_id="gone"),
            replace(stored, attempts_before_resend=stored.attempts_before_resend + 1),
        ):
            assert not await deliveries.begin_attempt(tx, stale, LATER)
        assert await deliveries.begin_attempt(tx, stored, LATER)
