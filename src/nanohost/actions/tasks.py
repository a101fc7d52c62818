"""An agent's own tasks: made, changed, paused, resumed, cancelled. Never those of another session."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from nanohost.actions.registry import Action, Arguments, Request
from nanohost.delivery.examine import LATEST
from nanohost.errors import UsageError
from nanohost.model import TaskId
from nanohost.store.database import Transaction
from nanohost.store.tasks import Task, TaskKind
from nanohost.tasks import changes
from nanohost.tasks.schedule import checked_zone, next_time
from nanohost_protocol.actions import ActionName
from nanohost_protocol.ids import task_id
from nanohost_protocol.moments import coming, is_counted

BY_AGENT = "agent"


class NewTask(Arguments):
    """The content of a row of kind task: see payloads.TaskOut."""

    prompt: str
    due: str
    recurrence: str | None = None
    timezone: str | None = None


class OneTask(Arguments):
    id: str


class ChangedTask(OneTask):
    prompt: str | None = None
    due: str | None = None
    recurrence: str | None = None
    timezone: str | None = None


def due_time(text: str | None, *, timezone: str, request: Request) -> datetime | None:
    """What the agent wrote as a moment, counted from when it asked; None for nothing. One that asked before the clock
    was set back asks now. Raises UsageError."""
    if not text:
        return None
    try:
        return coming(text, zone=ZoneInfo(checked_zone(timezone)), now=min(request.asked_at, request.now))
    except ValueError as error:
        raise UsageError(str(error)) from None


def new_id(request: Request) -> TaskId:
    """The id of the task that a request makes."""
    return TaskId(task_id(session=request.session, request=request.id))


def check_within_a_year(task: Task, now: datetime) -> None:
    """An agent's task runs within LATEST, as its messages for later are sent within it, and a series goes on as soon
    after that: what is due later lies there for longer than anybody plans. Raises UsageError."""
    first = task.next_due
    if first is None:
        return
    if first - now > LATEST:
        day = f"{first:%Y-%m-%d}"
        raise UsageError(f"it would run for the first time on {day}, more than a year ahead; name an earlier time")
    if task.cron is None:
        return
    second = next_time(task.cron, task.timezone, first)
    if second - first > LATEST:
        raise UsageError(f"it would not run again before {second:%Y-%m-%d}, and a series runs once a year at least")


async def _create(tx: Transaction, request: Request, wanted: NewTask) -> None:
    timezone = wanted.timezone or request.timezone
    task = await changes.create(
        tx,
        id=new_id(request),
        session=request.session,
        kind=TaskKind.AGENT,
        content=wanted.prompt,
        out_kind=None,
        due=due_time(wanted.due, timezone=timezone, request=request),
        cron=wanted.recurrence,
        timezone=timezone,
        origin=request.origin,
        created_by=BY_AGENT,
        now=request.now,
        counted=is_counted(wanted.due),
    )
    check_within_a_year(task, request.now)


async def _update(tx: Transaction, request: Request, wanted: ChangedTask) -> None:
    task = await _own(tx, request, wanted.id)
    changed = await changes.update(
        tx,
        task.id,
        prompt=wanted.prompt,
        due=due_time(wanted.due, timezone=wanted.timezone or request.timezone, request=request),
        cron=wanted.recurrence,
        timezone=wanted.timezone,
        now=request.now,
        counted=is_counted(wanted.due),
    )
    if (changed.next_due, changed.cron) != (task.next_due, task.cron):
        check_within_a_year(changed, request.now)


async def _pause(tx: Transaction, request: Request, wanted: OneTask) -> None:
    await changes.pause(tx, (await _own(tx, request, wanted.id)).id, request.now)


async def _resume(tx: Transaction, request: Request, wanted: OneTask) -> None:
    await changes.resume(tx, (await _own(tx, request, wanted.id)).id, request.now)


async def _cancel(tx: Transaction, request: Request, wanted: OneTask) -> None:
    await changes.cancel(tx, (await _own(tx, request, wanted.id)).id, request.now)


async def _own(tx: Transaction, request: Request, id: str) -> Task:
    """The task, if it is the asking session's. Of others' it is not even said that they exist. Raises UsageError."""
    task = await changes.find(tx, TaskId(id))
    if task is None or task.session_id != request.session:
        raise UsageError(f"there is no task {id[:80]!r} in this conversation")
    return task


ACTIONS = (
    Action(name=ActionName.TASKS_CREATE, title="Have a task done later", arguments=NewTask, effect=_create),
    Action(name=ActionName.TASKS_UPDATE, title="Change a task", arguments=ChangedTask, effect=_update),
    Action(name=ActionName.TASKS_PAUSE, title="Pause a task", arguments=OneTask, effect=_pause),
    Action(name=ActionName.TASKS_RESUME, title="Go on with a task", arguments=OneTask, effect=_resume),
    Action(name=ActionName.TASKS_CANCEL, title="Cancel a task", arguments=OneTask, effect=_cancel),
)
