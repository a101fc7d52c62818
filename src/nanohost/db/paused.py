"""The pause: while it is on record nothing is started and nothing is sent, but for what the host itself says.

Whoever sends, or does what an agent asks for, looks here in the transaction that begins it: a pause holds from its
commit on. What runs is told of it and ended (see containers/pause_service.py).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nanohost.db.database import Queries, Transaction
from nanohost.db.domain_events import PauseChanged
from nanohost.db.rows import from_row, origin_columns
from nanohost_protocol.rows import Origin, origin_from_row
from nanohost_protocol.times import from_text, to_text

FIND = "SELECT * FROM paused"
BEGIN = """
INSERT INTO paused
    (singleton, created_by, created_at, interrupted_turns, channel_type, instance, platform_id, thread_id)
VALUES (1, ?, ?, '', ?, ?, ?, ?)
"""
RECORD_INTERRUPTED = "UPDATE paused SET interrupted_turns = :turns WHERE created_at = :at AND interrupted_turns = ''"
END = "DELETE FROM paused"

# What waits while nothing goes on, or would go on.
COUNT_TO_SEND = """
SELECT count(*) AS found FROM deliveries WHERE status IN ('pending', 'sending') AND session_id != 'host'
    AND seq NOT BETWEEN -8000000000000000000 AND -1 AND (not_before IS NULL OR not_before <= ?)
"""
COUNT_WITH_WORK = "SELECT count(*) AS found FROM sessions WHERE due_at <= ?"
TASKS_DUE = "SELECT count(*) AS found, min(next_due) AS first FROM tasks WHERE status = 'active' AND next_due <= ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptedTurn:
    """A turn that was under way. `agent_group`: its folder; `since` None: it could not be looked at, so there may have
    been none."""

    agent_group: str
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseState:
    """`interrupted_turns`: the turns that were under way when it began, or None until the container manager has looked.
    `origin`: the chat where that is said; None: it was asked for at the machine."""

    created_by: str
    created_at: datetime
    interrupted_turns: Sequence[InterruptedTurn] | None
    origin: Origin | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How much there is: answers `to_send`, conversations with something to do, tasks due by some moment."""

    to_send: int
    conversations: int
    tasks: int
    first_task: datetime | None


async def find(db: Queries) -> PauseState | None:
    """None: everything goes on."""
    row = await db.fetch_one(FIND)
    return None if row is None else _from_row(row)


async def begin(tx: Transaction, *, by: str, at: datetime, place: Origin | None) -> None:
    """Emits PauseChanged. Raises sqlite3.IntegrityError if it has begun already."""
    where = tuple(origin_columns(place).values())
    await tx.execute(BEGIN, (by, to_text(at), *where))
    tx.emit(PauseChanged())


async def record_interrupted(tx: Transaction, pause: PauseState, interrupted: Sequence[InterruptedTurn]) -> bool:
    """Put on record which turns were under way. False: it is on record, or this pause is over."""
    text = json.dumps(
        [{"agent_group": one.agent_group, "since": one.since and to_text(one.since)} for one in interrupted]
    )
    return await tx.execute(RECORD_INTERRUPTED, {"turns": text, "at": to_text(pause.created_at)}) == 1


async def end(tx: Transaction) -> None:
    """Emits PauseChanged."""
    await tx.execute(END)
    tx.emit(PauseChanged())


async def backlog(db: Queries, now: datetime, *, tasks_within: timedelta) -> Backlog:
    """What waits now, and which tasks fall due until then."""
    to_send = await db.fetch_one(COUNT_TO_SEND, (to_text(now),))
    with_work = await db.fetch_one(COUNT_WITH_WORK, (to_text(now),))
    tasks = await db.fetch_one(TASKS_DUE, (to_text(now + tasks_within),))
    assert to_send is not None, "an aggregate has a row"
    assert with_work is not None, "the same"
    assert tasks is not None, "the same"
    return Backlog(
        to_send=to_send["found"],
        conversations=with_work["found"],
        tasks=tasks["found"],
        first_task=None if tasks["first"] is None else from_text(tasks["first"]),
    )


def _from_row(row: sqlite3.Row) -> PauseState:
    turns = json.loads(row["interrupted_turns"]) if row["interrupted_turns"] else None
    return from_row(
        PauseState,
        row,
        interrupted_turns=None if turns is None else tuple(_interrupted_turn(**one) for one in turns),
        origin=origin_from_row(row),
    )


def _interrupted_turn(*, agent_group: str, since: str | None) -> InterruptedTurn:
    return InterruptedTurn(agent_group=agent_group, since=None if since is None else from_text(since))
