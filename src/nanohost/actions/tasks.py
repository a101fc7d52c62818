"""Defines the actions that create, update, pause, resume and cancel tasks of the requesting session only."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from nanohost.actions.registry import Action, ActionRequest, Arguments
from nanohost.db.database import Transaction
from nanohost.db.tasks import Task, TaskKind
from nanohost.delivery.validate import MAX_DELAY
from nanohost.errors import UsageError
from nanohost.model import TaskId
from nanohost.scheduler import task_operations
from nanohost.scheduler.schedule import next_time, validate_timezone
from nanohost.text.translation import gettext_noop
from nanohost_protocol.actions import ActionName
from nanohost_protocol.ids import task_id
from nanohost_protocol.typed_times import is_relative, parse_future_moment

AGENT_ACTOR = "agent"


class CreateTask(Arguments):
    """The content of a row of kind task: see payloads.TaskOut."""

    prompt: str
    due: str
    recurrence: str | None = None
    timezone: str | None = None


class TaskReference(Arguments):
    id: str


class UpdateTask(TaskReference):
    prompt: str | None = None
    due: str | None = None
    recurrence: str | None = None
    timezone: str | None = None


def parse_due(text: str | None, *, timezone: str, request: ActionRequest) -> datetime | None:
    """Parses a time of the agent, relative to its request; None for no text. Raises UsageError.

    If the clock was set back since the request, the time counts from now.
    """
    if not text:
        return None
    try:
        return parse_future_moment(
            text, zone=ZoneInfo(validate_timezone(timezone)), now=min(request.asked_at, request.now)
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def derive_task_id(request: ActionRequest) -> TaskId:
    """Returns the id of the task that a request creates."""
    return TaskId(task_id(session=request.session_id, request=request.request_id))


def check_max_delay(task: Task, now: datetime) -> None:
    """Raises UsageError if an agent's task is due too late. The limit is that of its scheduled messages, and applies to
    each next time of a series."""
    first = task.next_due
    if first is None:
        return
    if first - now > MAX_DELAY:
        day = f"{first:%Y-%m-%d}"
        raise UsageError(f"it would run for the first time on {day}, more than a year ahead; name an earlier time")
    if task.cron is None:
        return
    second = next_time(task.cron, task.timezone, first)
    if second - first > MAX_DELAY:
        raise UsageError(f"it would not run again before {second:%Y-%m-%d}, and a series runs once a year at least")


async def _create_task(tx: Transaction, request: ActionRequest, arguments: CreateTask) -> None:
    timezone = arguments.timezone or request.timezone
    task = await task_operations.create(
        tx,
        id=derive_task_id(request),
        session=request.session_id,
        kind=TaskKind.AGENT,
        content=arguments.prompt,
        out_kind=None,
        due=parse_due(arguments.due, timezone=timezone, request=request),
        cron=arguments.recurrence,
        timezone=timezone,
        origin=request.origin,
        created_by=AGENT_ACTOR,
        now=request.now,
        is_relative=is_relative(arguments.due),
    )
    check_max_delay(task, request.now)


async def _update_task(tx: Transaction, request: ActionRequest, arguments: UpdateTask) -> None:
    task = await _get_own_task(tx, request, arguments.id)
    changed = await task_operations.update(
        tx,
        task.id,
        prompt=arguments.prompt,
        due=parse_due(arguments.due, timezone=arguments.timezone or request.timezone, request=request),
        cron=arguments.recurrence,
        timezone=arguments.timezone,
        now=request.now,
        is_relative=is_relative(arguments.due),
    )
    if (changed.next_due, changed.cron) != (task.next_due, task.cron):
        check_max_delay(changed, request.now)


async def _pause_task(tx: Transaction, request: ActionRequest, arguments: TaskReference) -> None:
    await task_operations.pause(tx, (await _get_own_task(tx, request, arguments.id)).id, request.now)


async def _resume_task(tx: Transaction, request: ActionRequest, arguments: TaskReference) -> None:
    await task_operations.resume(tx, (await _get_own_task(tx, request, arguments.id)).id, request.now)


async def _cancel_task(tx: Transaction, request: ActionRequest, arguments: TaskReference) -> None:
    await task_operations.cancel(tx, (await _get_own_task(tx, request, arguments.id)).id, request.now)


async def _get_own_task(tx: Transaction, request: ActionRequest, id: str) -> Task:
    """Returns the task of the requesting session. Raises UsageError, the same whether or not others have it."""
    task = await task_operations.find(tx, TaskId(id))
    if task is None or task.session_id != request.session_id:
        raise UsageError(f"there is no task {id[:80]!r} in this conversation")
    return task


ACTIONS = (
    Action(
        name=ActionName.TASKS_CREATE,
        title=gettext_noop("Have a task done later"),
        arguments=CreateTask,
        effect=_create_task,
    ),
    Action(
        name=ActionName.TASKS_UPDATE, title=gettext_noop("Change a task"), arguments=UpdateTask, effect=_update_task
    ),
    Action(
        name=ActionName.TASKS_PAUSE, title=gettext_noop("Pause a task"), arguments=TaskReference, effect=_pause_task
    ),
    Action(
        name=ActionName.TASKS_RESUME, title=gettext_noop("Resume a task"), arguments=TaskReference, effect=_resume_task
    ),
    Action(
        name=ActionName.TASKS_CANCEL, title=gettext_noop("Cancel a task"), arguments=TaskReference, effect=_cancel_task
    ),
)
