"""Creates, updates, pauses, resumes and cancels tasks, for agents and for the command line.

Each runs inside the caller's transaction, emits TasksChanged, and raises UsageError, with a sentence and a hint, if it
is not possible.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from nanohost.db import tasks
from nanohost.db.database import Queries, Transaction
from nanohost.db.domain_events import TasksChanged
from nanohost.db.tasks import OPEN_STATUSES, MisfirePolicy, Task, TaskKind, TaskStatus
from nanohost.errors import UsageError
from nanohost.model import SessionId, TaskId
from nanohost.scheduler.schedule import next_time, validate_cron, validate_timezone
from nanohost_protocol.rows import Origin

MAX_OPEN_TASKS = 100
"""Open tasks of one session."""
MAX_CONTENT_CHARS = 20_000
"""Characters of a prompt, or of a message's content."""
PAUSED_ON_REQUEST = "paused on request"


async def create(
    tx: Transaction,
    *,
    id: TaskId,
    session: SessionId,
    kind: TaskKind,
    content: str,
    out_kind: str | None,
    due: datetime | None,
    cron: str | None,
    timezone: str,
    origin: Origin | None,
    misfire: MisfirePolicy = MisfirePolicy.LATEST,
    created_by: str,
    now: datetime,
    is_relative: bool = False,
) -> Task:
    """Creates a task that is due at `due`, or by `cron` in `timezone`; with both, first at `due`. Returns the task.

    A time in the past means now. `is_relative`: `due` was given as a delay, not as a time of day. A repeated call
    changes nothing and returns the existing task. Raises UsageError.
    """
    if (there := await tasks.find(tx, id)) is not None:
        return there
    validate_timezone(timezone)
    _check_content(kind, content)
    if kind is TaskKind.MESSAGE and (origin is None or out_kind is None):
        raise UsageError("a message that is sent again and again needs a chat to go to", hint="name a destination")
    if len(await tasks.list_open_of_session(tx, session)) >= MAX_OPEN_TASKS:
        raise UsageError(
            f"this conversation has {MAX_OPEN_TASKS} tasks already",
            hint="cancel one of them first: nanohost tasks list",
        )
    task = Task(
        id=id,
        session_id=session,
        kind=kind,
        content=content,
        out_kind=out_kind,
        cron=validate_cron(cron) if cron is not None else None,
        timezone=timezone,
        next_due=_first_due(due, cron, timezone, now),
        run_requested_at=None,
        status=TaskStatus.ACTIVE,
        misfire=misfire,
        failures_in_a_row=0,
        reason=None,
        origin=origin,
        created_by=created_by,
        created_at=now,
        changed_at=now,
        is_relative=is_relative,
    )
    await tasks.add(tx, task)
    tx.emit(TasksChanged(session))
    return task


async def pause(tx: Transaction, id: TaskId, now: datetime, reason: str = PAUSED_ON_REQUEST) -> Task:
    """Pauses the task: it is not due until it is resumed. Pausing twice changes nothing."""
    task = await _get_open_task(tx, id)
    if task.status is TaskStatus.PAUSED:
        return task
    return await _save(tx, replace(task, status=TaskStatus.PAUSED, reason=reason), now)


async def resume(tx: Transaction, id: TaskId, now: datetime) -> Task:
    """Resumes the task; times that passed meanwhile are handled by its misfire policy."""
    task = await _get_open_task(tx, id)
    if task.status is TaskStatus.ACTIVE:
        return task
    return await _save(tx, replace(task, status=TaskStatus.ACTIVE, reason=None, failures_in_a_row=0), now)


async def cancel(tx: Transaction, id: TaskId, now: datetime, reason: str = "cancelled on request") -> Task:
    """Cancels the task for good. A run that has started continues. Cancelling twice changes nothing."""
    task = await _get_task(tx, id)
    if task.status not in OPEN_STATUSES:
        return task
    return await _save(tx, replace(task, status=TaskStatus.CANCELLED, next_due=None, reason=reason), now)


async def update(
    tx: Transaction,
    id: TaskId,
    *,
    prompt: str | None = None,
    due: datetime | None = None,
    cron: str | None = None,
    timezone: str | None = None,
    now: datetime,
    is_relative: bool = False,
) -> Task:
    """Changes the given fields. A new time replaces the old one: `due` alone makes a one-off task, `cron` a series."""
    task = await _get_open_task(tx, id)
    if prompt is not None:
        if task.kind is not TaskKind.AGENT:
            raise UsageError(f"task {id} sends a message and has no prompt", hint="cancel it and make another one")
        _check_content(task.kind, prompt)
        task = replace(task, content=prompt)
    if due is not None or cron is not None or timezone is not None:
        zone = validate_timezone(timezone) if timezone is not None else task.timezone
        # A new zone alone moves a series; a one-off task keeps its time.
        series = validate_cron(cron) if cron is not None else (task.cron if due is None else None)
        moved = due if due is not None or series is not None else task.next_due
        from_now = is_relative if due is not None else task.is_relative and series is None
        task = replace(
            task, cron=series, timezone=zone, next_due=_first_due(moved, series, zone, now), is_relative=from_now
        )
    return await _save(tx, task, now)


async def find(db: Queries, id: TaskId) -> Task | None:
    return await tasks.find(db, id)


async def list_open(db: Queries, session: SessionId) -> list[Task]:
    """Returns the session's open tasks in order of creation."""
    return await tasks.list_open_of_session(db, session)


async def _save(tx: Transaction, task: Task, now: datetime) -> Task:
    task = replace(task, changed_at=now)
    await tasks.update(tx, task, now)
    tx.emit(TasksChanged(task.session_id))
    return task


async def _get_task(db: Queries, id: TaskId) -> Task:
    if (task := await tasks.find(db, id)) is None:
        raise UsageError(f"there is no task {id[:80]!r}", hint="nanohost tasks list")
    return task


async def _get_open_task(db: Queries, id: TaskId) -> Task:
    task = await _get_task(db, id)
    if task.status not in OPEN_STATUSES:
        raise UsageError(f"task {id} is {task.status}: it cannot be changed any more", hint="make a new one")
    return task


def _first_due(due: datetime | None, cron: str | None, timezone: str, now: datetime) -> datetime:
    if due is not None:
        return max(due, now)
    if cron is None:
        raise UsageError("a task needs a time", hint='give a time, or a cron expression such as "0 9 * * 1-5"')
    return next_time(cron, timezone, now)


def _check_content(kind: TaskKind, content: str) -> None:
    what = "prompt" if kind is TaskKind.AGENT else "message"
    if not content.strip():
        raise UsageError(f"the task's {what} is empty", hint="say what is to be done")
    if len(content) > MAX_CONTENT_CHARS:
        raise UsageError(f"the task's {what} is longer than {MAX_CONTENT_CHARS} characters", hint="make it shorter")
