"""Stores the pause. While it is recorded, nothing is started and nothing is sent, except messages of the host itself.

The pause is read in the transaction that begins a send or a request, so it takes effect with its commit. Running turns
are stopped by containers/pause_service.py.
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

# The open items that wait during a pause.
COUNT_TO_SEND = """
SELECT count(*) AS found FROM deliveries WHERE status IN ('pending', 'sending') AND session_id != 'host'
    AND seq NOT BETWEEN -8000000000000000000 AND -1 AND (not_before IS NULL OR not_before <= ?)
"""
COUNT_WITH_WORK = "SELECT count(*) AS found FROM sessions WHERE due_at <= ?"
TASKS_DUE = "SELECT count(*) AS found, min(next_due) AS first FROM tasks WHERE status = 'active' AND next_due <= ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptedTurn:
    """A turn that was running. `agent_group`: its folder. `since`: None if it could not be read, so that perhaps no
    turn was running."""

    agent_group: str
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseState:
    """The pause. `interrupted_turns`: the turns that were running when it began; None until they are recorded.
    `origin`: the chat in which the pause was requested; None: at the machine."""

    created_by: str
    created_at: datetime
    interrupted_turns: Sequence[InterruptedTurn] | None
    origin: Origin | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The waiting items: messages `to_send`, conversations with work, tasks that are due by some time."""

    to_send: int
    conversations: int
    tasks: int
    first_task: datetime | None


async def find(db: Queries) -> PauseState | None:
    """Returns the pause; None if nothing is paused."""
    row = await db.fetch_one(FIND)
    return None if row is None else _from_row(row)


async def begin(tx: Transaction, *, by: str, at: datetime, place: Origin | None) -> None:
    """Begin a pause. Emits PauseChanged. Raises sqlite3.IntegrityError if one has begun already."""
    origin = tuple(origin_columns(place).values())
    await tx.execute(BEGIN, (by, to_text(at), *origin))
    tx.emit(PauseChanged())


async def record_interrupted(tx: Transaction, pause: PauseState, interrupted: Sequence[InterruptedTurn]) -> bool:
    """Record which turns were running. Returns False if that is recorded already, or if this pause has ended."""
    text = json.dumps(
        [{"agent_group": one.agent_group, "since": one.since and to_text(one.since)} for one in interrupted]
    )
    return await tx.execute(RECORD_INTERRUPTED, {"turns": text, "at": to_text(pause.created_at)}) == 1


async def end(tx: Transaction) -> None:
    """End the pause. Emits PauseChanged."""
    await tx.execute(END)
    tx.emit(PauseChanged())


async def backlog(db: Queries, now: datetime, *, tasks_within: timedelta) -> Backlog:
    """Count the items that wait now, and the tasks that are due within `tasks_within`."""
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
