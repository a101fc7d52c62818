"""Parts of long messages, and scheduled messages, in the central database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nanohost.config.shipped import shipped_root
from nanohost.db import deliveries
from nanohost.db.database import Store
from nanohost.db.deliveries import DeliveryPart, DeliveryStatus
from nanohost.db.migrations import load_migrations, migrate
from tests.db.test_entities import LATER, NOON, a_delivery, a_session


@pytest.mark.behaviour("DL-06")
async def test_parts_are_sent_one_by_one_and_deleted_when_the_message_is_sent(store: Store) -> None:
    delivery = a_delivery(await a_session(store), 1)
    first, last = (DeliveryPart(number=number, of=2, text=f"t{number}", plain=f"p{number}") for number in range(2))
    async with store.transaction() as tx:
        await deliveries.add(tx, delivery)
        await deliveries.begin_attempt(tx, delivery, NOON)
        await deliveries.add_parts(tx, delivery, [first, last])
    assert await deliveries.next_part(store, delivery) == first
    async with store.transaction() as tx:
        await deliveries.end_part(tx, delivery, first, ["7", "8"], NOON)
    between = await deliveries.find(store, delivery.queue.session_id, 1)
    assert between is not None
    assert (between.status, between.reason) == (DeliveryStatus.PENDING, "part 1 of 2 is sent")
    assert await deliveries.part_progress(store, delivery) == (1, 2)
    assert await deliveries.next_part(store, delivery) == last
    assert await deliveries.count_attempts(store, delivery) == 0
    async with store.transaction() as tx:
        await deliveries.begin_attempt(tx, delivery, LATER)
        await deliveries.end_part(tx, delivery, last, ["9"], LATER)
    done = await deliveries.find(store, delivery.queue.session_id, 1)
    assert done is not None
    assert (done.status, done.receipt) == (DeliveryStatus.SENT, ("7", "8", "9"))
    assert await store.fetch_all("SELECT * FROM delivery_parts") == []


async def test_parts_are_deleted_with_their_delivery(store: Store) -> None:
    delivery = a_delivery(await a_session(store), 1)
    async with store.transaction() as tx:
        await deliveries.add(tx, delivery)
        await deliveries.add_parts(tx, delivery, [DeliveryPart(number=0, of=2, text="t", plain="p")])
        await tx.execute("DELETE FROM deliveries")
    assert await store.fetch_all("SELECT * FROM delivery_parts") == []


@pytest.mark.behaviour("TK-07")
def test_scheduled_messages_of_an_earlier_version_stay_scheduled(tmp_path: Path) -> None:
    database, backups = tmp_path / "nanohost.db", tmp_path / "backups"
    everything = load_migrations([shipped_root() / "migrations"])
    migrate(database, [each for each in everything if each.name < "0007"], backups=backups)
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.executescript("""
            INSERT INTO agent_groups VALUES (1, 'main', 'main', NULL, NULL, 't');
            INSERT INTO sessions (id, agent_group_id, created_at, last_active_at) VALUES ('s1', 1, 't', 't');
            INSERT INTO deliveries (session_id, seq, out_id, kind, channel_type, instance, platform_id, content, status,
                attempts, next_try_at, created_at, changed_at)
            VALUES ('s1', 1, 'later', 'chat', 'fake', 'default', 'c1', '{}', 'pending', 0, 't1', 't', 't'),
                   ('s1', 3, 'tried', 'chat', 'fake', 'default', 'c1', '{}', 'pending', 1, 't2', 't', 't'),
                   ('s1', 5, 'waits', 'chat', 'fake', 'default', 'c1', '{}', 'pending', 0, NULL, 't', 't');
        """)
    migrate(database, everything, backups=backups)
    with closing(sqlite3.connect(database)) as db:
        rows = db.execute("SELECT out_id, not_before, next_attempt_at FROM deliveries ORDER BY seq").fetchall()
    assert rows == [("later", "t1", None), ("tried", None, "t2"), ("waits", None, None)]
