"""Stores tasks and their runs.

A run is recorded first (its row, and the next time of its task, in one transaction) and then written to the session,
with an id derived from both. So after a kill in between it is only written again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from nanohost.db.database import Queries, ReportReader, Transaction, Value
from nanohost.db.domain_events import TasksChanged
from nanohost.db.rows import from_row, origin_columns
from nanohost.db.sessions import IN_CHAT
from nanohost.model import MessagingGroupId, SessionId, TaskId
from nanohost_protocol.rows import Origin, Usage, origin_from_row
from nanohost_protocol.times import from_text, to_text

ADD = """
INSERT INTO tasks
    (id, session_id, kind, content, out_kind, cron, timezone, next_due, is_relative, misfire,
     channel_type, instance, platform_id, thread_id, created_by, created_at, changed_at)
VALUES
    (:id, :session_id, :kind, :content, :out_kind, :cron, :timezone, :next_due, :is_relative, :misfire,
     :channel_type, :instance, :platform_id, :thread_id, :created_by, :now, :now)
ON CONFLICT (id) DO NOTHING
"""
BY_ID = "SELECT * FROM tasks WHERE id = ?"
BY_PREFIX = """
SELECT * FROM tasks
WHERE id >= :start AND id < :start || char(1114111) AND substr(id, 1, length(:start)) = :start ORDER BY id LIMIT 2
"""
LATEST = f"""
SELECT * FROM tasks
WHERE (:session IS NULL OR session_id = :session) AND (:all OR status IN ('active', 'paused'))
    AND (:chat IS NULL OR session_id IN {IN_CHAT})
ORDER BY created_at, id LIMIT :limit
"""  # noqa: S608
OPEN_OF_SESSION = """
SELECT * FROM tasks INDEXED BY tasks_open
WHERE session_id = ? AND status IN ('active', 'paused') ORDER BY created_at, id
"""
SESSIONS_DUE = """
SELECT session_id FROM tasks WHERE status = 'active' AND next_due <= :now
UNION ALL SELECT session_id FROM tasks WHERE run_requested_at IS NOT NULL
UNION ALL SELECT session_id FROM task_runs WHERE started_at IS NULL AND ended_at IS NULL
"""
DUE_OF_SESSION = """
SELECT * FROM tasks
WHERE session_id = :session AND status IN ('active', 'paused') AND status = 'active' AND next_due <= :now
UNION ALL SELECT * FROM tasks WHERE session_id = :session AND run_requested_at IS NOT NULL
"""
NEXT_DUE = "SELECT min(next_due) AS due FROM tasks WHERE status = 'active' AND next_due > ?"
ADVANCE = """
UPDATE tasks SET next_due = :next_due, is_relative = 0, status = iif(:next_due IS NULL, 'done', status),
    reason = :reason, changed_at = :now
WHERE id = :id AND next_due = :seen AND status = 'active'
"""
UPDATE = """
UPDATE tasks SET status = :status, next_due = :next_due, is_relative = :is_relative, content = :content, cron = :cron,
    timezone = :timezone, failures_in_a_row = :failures_in_a_row, reason = :reason, changed_at = :now
WHERE id = :id
"""
RELATIVE_DUE_LATER = """
SELECT id, session_id, next_due FROM tasks WHERE is_relative AND status IN ('active', 'paused') AND next_due > ?
"""
SET_NEXT_DUE = "UPDATE tasks SET next_due = ? WHERE id = ?"
REQUEST_RUN = (
    "UPDATE tasks SET run_requested_at = :now WHERE id = :id AND run_requested_at IS NULL RETURNING session_id"
)
CLEAR_RUN_REQUEST = "UPDATE tasks SET run_requested_at = NULL WHERE id = ?"

ADD_RUN = """
INSERT INTO task_runs (task_id, session_id, due, message_id, decided_at, ended_at, outcome, error)
VALUES (:task_id, :session_id, :due, :message_id, :now, :ended_at, :outcome, :error)
ON CONFLICT (task_id, due) DO NOTHING
"""
RUN = "SELECT * FROM task_runs WHERE task_id = ? AND due = ?"
RUNS = "SELECT * FROM task_runs WHERE task_id = ? ORDER BY due DESC, id DESC LIMIT ?"
IS_RUNNING = "SELECT 1 FROM task_runs WHERE session_id = ? AND task_id = ? AND ended_at IS NULL LIMIT 1"
UNSTARTED = """
SELECT * FROM task_runs WHERE session_id = ? AND started_at IS NULL AND ended_at IS NULL ORDER BY id
"""
OPEN_RUNS = "SELECT * FROM task_runs WHERE session_id = ? AND ended_at IS NULL ORDER BY id"
START = "UPDATE task_runs SET started_at = ? WHERE id = ? AND started_at IS NULL"
END = """
UPDATE task_runs SET started_at = ifnull(started_at, decided_at), ended_at = :now, outcome = :outcome,
    error = :error, cost_usd = :cost_usd, tokens_in = :tokens_in, tokens_out = :tokens_out,
    tokens_cached = :tokens_cached
WHERE id = :id AND ended_at IS NULL
"""


class TaskKind(StrEnum):
    AGENT = "agent"
    """The prompt goes to the session's agent as a message."""
    MESSAGE = "message"
    """The content goes to the chat as it is; no agent is woken."""


class TaskStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    """It does not run until it is resumed: somebody paused it, or it failed too often in a row."""
    CANCELLED = "cancelled"
    DONE = "done"
    """It was for one time, which has passed."""


OPEN_STATUSES = (TaskStatus.ACTIVE, TaskStatus.PAUSED)


class MisfirePolicy(StrEnum):
    """What happens to times that passed while no host ran, or while the task was paused."""

    LATEST = "latest"
    """The latest of them is run."""
    ALL = "all"
    """All of them are run, one after the other, up to a limit."""
    SKIP = "skip"
    """None of them is run."""


class RunOutcome(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It did not begin: the previous run had not ended, or its time passed without a host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A series of runs, or a single one if `cron` is None. `origin`: the chat it came from, where answers go."""

    id: TaskId
    session_id: SessionId
    kind: TaskKind
    content: str
    out_kind: str | None
    cron: str | None
    timezone: str
    next_due: datetime | None
    run_requested_at: datetime | None
    status: TaskStatus
    misfire: MisfirePolicy
    failures_in_a_row: int
    reason: str | None
    origin: Origin | None
    created_by: str
    created_at: datetime
    changed_at: datetime
    is_relative: bool = False
    """Whether `next_due` is relative to the request ("in ten minutes"), and not a time of day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """One time that a task was due. `usage`: of the whole turn, known when it has ended."""

    id: int
    task_id: TaskId
    session_id: SessionId
    due: datetime
    message_id: str
    decided_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    outcome: RunOutcome | None
    usage: Usage | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run before it has a number. `skip_reason`: why it is only recorded, and not run."""

    task_id: TaskId
    session_id: SessionId
    due: datetime
    message_id: str
    skip_reason: str | None = None


# --- tasks ---


async def add(tx: Transaction, task: Task) -> bool:
    """Add a task. Returns False if its id exists already."""
    values: dict[str, Value] = {
        "id": task.id,
        "session_id": task.session_id,
        "kind": task.kind,
        "content": task.content,
        "out_kind": task.out_kind,
        "cron": task.cron,
        "timezone": task.timezone,
        "next_due": _to_text_or_none(task.next_due),
        "is_relative": int(task.is_relative),
        "misfire": task.misfire,
        **origin_columns(task.origin),
        "created_by": task.created_by,
        "now": to_text(task.created_at),
    }
    return await tx.execute(ADD, values) == 1


async def find(db: Queries, task: TaskId) -> Task | None:
    row = await db.fetch_one(BY_ID, (task,))
    return None if row is None else _task(row)


async def find_by_prefix(db: Queries, prefix: str) -> list[Task]:
    """Returns at most two tasks whose ids start with `prefix`: two mean that it is ambiguous."""
    return [_task(row) for row in await db.fetch_all(BY_PREFIX, {"start": prefix})]


async def latest(
    db: ReportReader,
    *,
    session: SessionId | None,
    include_ended: bool,
    limit: int,
    chat: MessagingGroupId | None = None,
) -> list[Task]:
    """Returns tasks in the order of their creation; of one session or chat, if given. `include_ended`: also cancelled
    and done ones."""
    values: dict[str, Value] = {"session": session, "chat": chat, "all": int(include_ended), "limit": limit}
    return [_task(row) for row in await db.fetch_all(LATEST, values)]


async def list_open_of_session(db: Queries, session: SessionId) -> list[Task]:
    """Returns the session's active and paused tasks."""
    return [_task(row) for row in await db.fetch_all(OPEN_OF_SESSION, (session,))]


async def list_due_sessions(db: Queries, now: datetime) -> list[SessionId]:
    """Returns the sessions with a due task, or with a run that is not written yet."""
    rows = await db.fetch_all(SESSIONS_DUE, {"now": to_text(now)})
    return sorted({SessionId(row["session_id"]) for row in rows})


async def list_due_of_session(db: Queries, session: SessionId, now: datetime) -> list[Task]:
    """Returns the session's tasks that are due, or for which a run was requested; in the order of their times."""
    rows = await db.fetch_all(DUE_OF_SESSION, {"session": session, "now": to_text(now)})
    once = {row["id"]: row for row in rows}
    return [_task(row) for row in sorted(once.values(), key=lambda row: (row["next_due"] or "", row["id"]))]


async def next_due(db: Queries, now: datetime) -> datetime | None:
    """Returns when the next task becomes due that is not due by `now`; None if there is none."""
    row = await db.fetch_one(NEXT_DUE, (to_text(now),))
    return from_text(row["due"]) if row and row["due"] else None


async def advance(tx: Transaction, task: Task, next_due: datetime | None, now: datetime, reason: str | None) -> bool:
    """Set the task's next time; None ends it. Returns False if the task was changed since it was read."""
    assert task.next_due is not None
    values: dict[str, Value] = {
        "id": task.id,
        "seen": to_text(task.next_due),
        "next_due": _to_text_or_none(next_due),
        "reason": reason,
        "now": to_text(now),
    }
    return await tx.execute(ADVANCE, values) == 1


async def update(tx: Transaction, task: Task, now: datetime) -> None:
    """Update a task's mutable fields. Read the task in the same transaction."""
    values: dict[str, Value] = {
        "id": task.id,
        "status": task.status,
        "next_due": _to_text_or_none(task.next_due),
        "is_relative": int(task.is_relative),
        "content": task.content,
        "cron": task.cron,
        "timezone": task.timezone,
        "failures_in_a_row": task.failures_in_a_row,
        "reason": task.reason,
        "now": to_text(now),
    }
    await tx.execute(UPDATE, values)


async def bring_forward(tx: Transaction, *, by: timedelta, now: datetime) -> None:
    """Move tasks with a relative time forward by `by`, since the clock was set back. Emits TasksChanged."""
    later = await tx.fetch_all(RELATIVE_DUE_LATER, (to_text(now),))
    for row in later:
        await tx.execute(SET_NEXT_DUE, (to_text(max(now, from_text(row["next_due"]) - by)), row["id"]))
    tx.emit(*(TasksChanged(SessionId(row["session_id"])) for row in later))


async def request_run(tx: Transaction, task: TaskId, now: datetime) -> bool:
    """Request a run beside the schedule. Returns False if one is requested already. Emits TasksChanged."""
    row = await tx.fetch_one(REQUEST_RUN, {"id": task, "now": to_text(now)})
    if row is not None:
        tx.emit(TasksChanged(SessionId(row["session_id"])))
    return row is not None


async def clear_run_request(tx: Transaction, task: TaskId) -> None:
    await tx.execute(CLEAR_RUN_REQUEST, (task,))


# --- runs ---


async def add_run(tx: Transaction, run: NewRun, now: datetime) -> bool:
    """Record a run. Returns False if there is one for this task and time already."""
    is_skipped = run.skip_reason is not None
    values: dict[str, Value] = {
        "task_id": run.task_id,
        "session_id": run.session_id,
        "due": to_text(run.due),
        "message_id": run.message_id,
        "now": to_text(now),
        "ended_at": to_text(now) if is_skipped else None,
        "outcome": RunOutcome.SKIPPED if is_skipped else None,
        "error": run.skip_reason,
    }
    return await tx.execute(ADD_RUN, values) == 1


async def find_run(db: Queries, task: TaskId, due: datetime) -> TaskRun | None:
    row = await db.fetch_one(RUN, (task, to_text(due)))
    return None if row is None else _run(row)


async def list_runs(db: Queries, task: TaskId, *, limit: int) -> list[TaskRun]:
    """Returns the task's last runs, latest first."""
    return [_run(row) for row in await db.fetch_all(RUNS, (task, limit))]


async def has_open_run(db: Queries, task: Task) -> bool:
    """Whether a run of the task has not ended."""
    return await db.fetch_one(IS_RUNNING, (task.session_id, task.id)) is not None


async def list_unstarted_runs(db: Queries, session: SessionId) -> list[TaskRun]:
    """Returns the runs that are recorded and not known to be written, in order."""
    return [_run(row) for row in await db.fetch_all(UNSTARTED, (session,))]


async def list_open_runs(db: Queries, session: SessionId) -> list[TaskRun]:
    return [_run(row) for row in await db.fetch_all(OPEN_RUNS, (session,))]


async def start_runs(tx: Transaction, started: Sequence[TaskRun], now: datetime) -> None:
    """Record that these runs are written to the session."""
    await tx.execute_many(START, [(to_text(now), run.id) for run in started])


async def end_run(
    tx: Transaction, run: TaskRun, outcome: RunOutcome, now: datetime, *, usage: Usage | None = None, error: str | None
) -> bool:
    """Record a run's outcome. Returns False if it had ended before."""
    values: dict[str, Value] = {
        "id": run.id,
        "now": to_text(now),
        "outcome": outcome,
        "error": error,
        "cost_usd": usage.cost_usd if usage else None,
        "tokens_in": usage.tokens_in if usage else None,
        "tokens_out": usage.tokens_out if usage else None,
        "tokens_cached": usage.tokens_cached if usage else None,
    }
    return await tx.execute(END, values) == 1


def _task(row: sqlite3.Row) -> Task:
    return from_row(Task, row, origin=origin_from_row(row))


def _run(row: sqlite3.Row) -> TaskRun:
    return from_row(TaskRun, row, usage=None if row["tokens_in"] is None else from_row(Usage, row, model=None))


def _to_text_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else to_text(moment)
