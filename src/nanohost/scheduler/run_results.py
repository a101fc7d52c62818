"""Records the end of a run in its task: pauses a series that fails repeatedly, and notifies its chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from nanohost.db import deliveries, tasks
from nanohost.db.database import Transaction
from nanohost.db.domain_events import TasksChanged
from nanohost.db.tasks import RunOutcome, Task, TaskRun, TaskStatus
from nanohost.model import SessionId
from nanohost.scheduler.task_messages import build_pause_notice, display_name
from nanohost.text.translation import _
from nanohost_protocol.rows import Usage

MAX_FAILURES = 3
"""Failures in a row before a series is paused: the next run would most likely fail, too, and cost as much."""
UNKNOWN_FAILURE = "it failed, and nobody said why"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMessage:
    """A closed message. `of_task`: a task created it. `error`: why it failed; `usage`: of all its attempts."""

    message_id: str
    of_task: bool
    is_completed: bool
    error: str | None
    usage: Usage | None


async def end_runs(tx: Transaction, session: SessionId, closed: Sequence[ClosedMessage], now: datetime) -> None:
    """Records the ends of runs among `closed`, in the caller's transaction. Repeating a message changes nothing.

    Emits TasksChanged for a series that is paused.
    """
    made = [message for message in closed if message.of_task]
    runs = {run.message_id: run for run in await tasks.list_open_runs(tx, session)} if made else {}
    for message in made:
        if (run := runs.get(message.message_id)) is not None:
            await _end_run(tx, run, message, now)


async def _end_run(tx: Transaction, run: TaskRun, message: ClosedMessage, now: datetime) -> None:
    outcome = RunOutcome.COMPLETED if message.is_completed else RunOutcome.FAILED
    error = None if message.is_completed else message.error or UNKNOWN_FAILURE
    await tasks.end_run(tx, run, outcome, now, usage=message.usage, error=error)
    task = await tasks.find(tx, run.task_id)
    if task is None or task.cron is None:
        return
    failures = 0 if message.is_completed else task.failures_in_a_row + 1
    task = replace(task, failures_in_a_row=failures)
    if failures < MAX_FAILURES or task.status is not TaskStatus.ACTIVE:
        await tasks.update(tx, task, now)
        return
    await _pause_task(tx, task, run, error or UNKNOWN_FAILURE, now)


async def _pause_task(tx: Transaction, task: Task, run: TaskRun, error: str, now: datetime) -> None:
    reason = f"it failed {task.failures_in_a_row} times in a row; the last time: {error}"
    await tasks.update(tx, replace(task, status=TaskStatus.PAUSED, reason=reason), now)
    tx.emit(TasksChanged(task.session_id))
    hint = f"nanohost tasks get {task.id}"  # shows the reason; the log does not, because a container wrote it
    _log.warning("task_paused", task=task.id, session=task.session_id, failures=task.failures_in_a_row, hint=hint)
    _log.debug("task_paused", task=task.id, reason=reason)
    if task.origin is not None:
        await deliveries.add(tx, build_pause_notice(task, run, pause_text(task), now))


def pause_text(task: Task) -> str:
    """Returns the notice for the chat."""
    return _(
        "I paused the task “{name}”: it failed {count} times in a row. To resume it, ask me to resume task {id}, or"
        " type: nanohost tasks resume {id}",
        name=display_name(task),
        count=task.failures_in_a_row,
        id=task.id,
    )
