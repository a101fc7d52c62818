"""The turn of an agent over a message, as its container reports it: partly twice."""

from __future__ import annotations

from datetime import timedelta

from nanohost.db import message_turns
from nanohost.db.database import Store
from nanohost.db.message_turns import TurnEnd, TurnOutcome, TurnStart
from nanohost.testing.manual_clock import START
from nanohost_protocol.times import to_text
from tests.support.session_values import SESSION

LATER = START + timedelta(seconds=20)
BEGUN = TurnStart(message_id="m1", turn_id="t1", at=START)
COMPLETED = TurnEnd(message_id="m1", turn_id="t1", outcome=TurnOutcome.COMPLETED, error=None, at=LATER)


async def row(store: Store) -> tuple[object, ...]:
    [found] = await store.fetch_all("SELECT turn_id, began_at, ended_at, outcome FROM message_turns")
    return tuple(found)


async def test_a_repeated_turn_end_changes_nothing(store: Store) -> None:
    async with store.transaction() as tx:
        await message_turns.record_starts(tx, SESSION.id, [BEGUN], LATER)
    for _ in range(3):
        async with store.transaction() as tx:
            await message_turns.record_ends(tx, SESSION.id, [COMPLETED], LATER)
        assert await row(store) == ("t1", to_text(START), to_text(LATER), "completed")


async def test_the_end_of_another_turn_does_not_keep_the_recorded_start(store: Store) -> None:
    other = TurnEnd(message_id="m1", turn_id="t2", outcome=TurnOutcome.FAILED, error="x", at=LATER)
    async with store.transaction() as tx:
        await message_turns.record_starts(tx, SESSION.id, [BEGUN], LATER)
        await message_turns.record_ends(tx, SESSION.id, [COMPLETED, other], LATER)
    assert await row(store) == ("t2", None, to_text(LATER), "failed")
