"""Tasks: list them, create, update, pause and resume them, and show what their runs did."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.chat_names import (
    CHAT_HELP,
    load_chat_names,
    resolve_chat_id,
    resolve_named_session,
    session_chat_names,
)
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import resolve_group, resolve_session
from nanohost.commands.tables import UNKNOWN_COST, Json, render_with_table, to_json
from nanohost.config.time_settings import TimeSettings
from nanohost.db import sessions, tasks
from nanohost.db.database import Queries, Store, Transaction
from nanohost.db.events import ChatKey
from nanohost.db.tasks import OPEN_STATUSES, MisfirePolicy, Task, TaskKind, TaskRun
from nanohost.delivery.address_book import address_book
from nanohost.errors import UsageError
from nanohost.model import Session, TaskId
from nanohost.scheduler import task_operations
from nanohost.scheduler.schedule import validate_timezone
from nanohost.scheduler.task_messages import display_name
from nanohost_protocol.ids import random_id
from nanohost_protocol.rows import Usage
from nanohost_protocol.typed_times import is_relative, parse_future_moment

ABOUT = "what agents do at a time, once or again and again"
OPERATOR = "operator"
ID_LENGTH = 13
MAX_RUNS = 10

_AT_HELP = 'when: local time such as 2026-03-01T09:00, or "in 10m"'
_CRON_HELP = (
    'again and again: five fields, such as "0 9 * * 1-5"; if neither day field is *, either is enough, also where one'
    " is a step such as */2"
)


class ListArgs(CommandArguments):
    session: str | None = Field(None, description="only this session's: its id, or the beginning of it")
    chat: str | None = Field(None, description=f"only of sessions in this chat: {CHAT_HELP}")
    all: bool = Field(False, description="those that are done or cancelled too")
    limit: int = Field(100, ge=1, le=10_000, description="at most so many (default: 100)")


class TaskArgs(CommandArguments):
    id: str = Field(min_length=1, description="the task's id, or its beginning")


class CreateArgs(CommandArguments):
    prompt: str = Field(description="what the agent is to do")
    session: str | None = Field(None, description="the conversation: its id, or the beginning of it")
    chat: str | None = Field(None, description=f"in place of --session: the chat it is in: {CHAT_HELP}")
    group: str | None = Field(
        None,
        description="in place of --session: the agent's folder; of several conversations, the one an owner wrote in"
        " last",
    )
    at: str | None = Field(None, description=_AT_HELP)
    cron: str | None = Field(None, description=_CRON_HELP)
    timezone: str | None = Field(None, description="of --at and --cron (default: the setting host.timezone)")
    misfire: MisfirePolicy = Field(
        MisfirePolicy.LATEST, description="of times missed, make up for the latest (default), all, or skip them"
    )


class UpdateArgs(TaskArgs):
    prompt: str | None = Field(None, description="what the agent is to do instead")
    at: str | None = Field(None, description=_AT_HELP)
    cron: str | None = Field(None, description=_CRON_HELP)
    timezone: str | None = Field(None, description="of --at and --cron (default: the task's)")


async def _list(context: CommandContext, arguments: ListArgs) -> Json:
    session = await resolve_session(context.store, arguments.session) if arguments.session is not None else None
    reports = context.store.reports
    found = await tasks.latest(
        reports,
        session=session.id if session else None,
        chat=await resolve_chat_id(reports, arguments.chat),
        include_ended=arguments.all,
        limit=arguments.limit,
    )
    names = await session_chat_names(reports, [task.session_id for task in found])
    return [_make_row(task, names.get(task.session_id)) for task in found]


async def _get(context: CommandContext, arguments: TaskArgs) -> Json:
    known = await _find_task(context.store, arguments.id)
    runs = await tasks.list_runs(context.store.reports, known.id, limit=MAX_RUNS)
    task = await _find_task(context.store, known.id)  # read again, so that it is not older than its runs
    return {
        **await _task_row(context.store, task),
        "task": task.content,
        "kind": str(task.kind),
        "misfire": str(task.misfire),
        "answers_to": await _reply_chat(context.store, task),
        "failures_in_a_row": task.failures_in_a_row,
        "run_requested_at": to_json(task.run_requested_at),
        "created_by": task.created_by,
        "since": to_json(task.created_at),
        "runs": [_run_row(run) for run in runs],
    }


async def _create(context: CommandContext, arguments: CreateArgs) -> Json:
    session, note = await _resolve_session(context.store, arguments)
    if arguments.at is None and arguments.cron is None:
        raise UsageError("a task needs a time", hint='--at "in 10m" for once, --cron "0 9 * * 1-5" for a series')
    timezone = validate_timezone(arguments.timezone or context.settings.section(TimeSettings).timezone)
    now = context.clock.now()
    book = await address_book(context.store, session)
    async with context.store.transaction() as tx:
        task = await task_operations.create(
            tx,
            id=TaskId(random_id("j")[:ID_LENGTH]),
            session=session.id,
            kind=TaskKind.AGENT,
            content=arguments.prompt,
            out_kind=None,
            due=_parse_due(arguments.at, timezone, context),
            cron=arguments.cron,
            timezone=timezone,
            origin=book.default,
            misfire=arguments.misfire,
            created_by=OPERATOR,
            now=now,
            is_relative=is_relative(arguments.at),
        )
    made = await _task_row(context.store, task)
    return {**made, "note": note} if note else made


async def _update(context: CommandContext, arguments: UpdateArgs) -> Json:
    task = await _find_task(context.store, arguments.id)
    timezone = arguments.timezone or task.timezone
    due = _parse_due(arguments.at, validate_timezone(timezone), context)
    if not any((arguments.prompt, due, arguments.cron, arguments.timezone)):
        raise UsageError("nothing is to be changed", hint="--prompt, --at, --cron or --timezone says what")
    async with context.store.transaction() as tx:
        changed = await task_operations.update(
            tx,
            task.id,
            prompt=arguments.prompt,
            due=due,
            cron=arguments.cron,
            timezone=arguments.timezone,
            now=context.clock.now(),
            is_relative=is_relative(arguments.at),
        )
    return await _task_row(context.store, changed)


async def _run_now(context: CommandContext, arguments: TaskArgs) -> Json:
    task = await _find_task(context.store, arguments.id)
    if task.status not in OPEN_STATUSES:
        raise UsageError(f"task {task.id} is {task.status}", hint="nanohost tasks create makes a new one")
    async with context.store.transaction() as tx:
        if await tasks.has_open_run(tx, task) or not await tasks.request_run(tx, task.id, context.clock.now()):
            raise UsageError(f"task {task.id} is running, or about to", hint=f"nanohost tasks get {task.id}")
    return {**await _task_row(context.store, task), "next": await context.describe_when("runs")}


async def _pause(context: CommandContext, arguments: TaskArgs) -> Json:
    return await _apply_change(context, arguments, task_operations.pause)


async def _resume(context: CommandContext, arguments: TaskArgs) -> Json:
    return await _apply_change(context, arguments, task_operations.resume)


async def _cancel(context: CommandContext, arguments: TaskArgs) -> Json:
    return await _apply_change(context, arguments, task_operations.cancel)


async def _apply_change(
    context: CommandContext, arguments: TaskArgs, change: Callable[[Transaction, TaskId, datetime], Awaitable[Task]]
) -> Json:
    task = await _find_task(context.store, arguments.id)
    async with context.store.transaction() as tx:
        changed = await change(tx, task.id, context.clock.now())
    return await _task_row(context.store, changed)


async def _task_row(store: Store, task: Task) -> dict[str, Json]:
    names = await session_chat_names(store.reports, [task.session_id])
    return _make_row(task, names.get(task.session_id))


async def _reply_chat(store: Store, task: Task) -> str | None:
    """Returns the chat that its answers go to, with the platform's id."""
    origin = task.origin
    if origin is None:
        return None
    place = ChatKey(origin.channel_type, origin.instance, origin.platform_id)
    name = (await load_chat_names(store.reports)).for_chat_key(place)
    return f"{name} ({origin.channel_type}:{origin.platform_id})"


async def _find_task(db: Queries, id_prefix: str) -> Task:
    found = await tasks.find_by_prefix(db, id_prefix)
    if len(found) != 1:
        what = "no task" if not found else "more than one task"
        raise UsageError(f"there is {what} whose id begins with {id_prefix[:80]!r}", hint="nanohost tasks list --all")
    return found[0]


async def _resolve_session(store: Store, arguments: CreateArgs) -> tuple[Session, str]:
    """Returns the session, and a sentence about the choice if there were several."""
    elsewhere = arguments.group is not None or arguments.chat is not None
    if (arguments.session is not None) == elsewhere:
        raise UsageError("a task belongs to one conversation", hint="--session ID, --chat CHAT, or --group FOLDER")
    if arguments.session is not None:
        return await resolve_session(store, arguments.session), ""
    group = None if arguments.group is None else await resolve_group(store, arguments.group)
    if arguments.chat is not None:
        return await resolve_named_session(store.reports, arguments.chat, group)
    assert group is not None, "one of the three was typed"
    found = await sessions.list_for_agent_group(store, group.id, limit=2)
    if not found:
        raise UsageError(f"{group.folder} has no conversation yet", hint="write to it first")
    if len(found) == 1:
        return found[0], ""
    latest = await sessions.find_latest_of_owners(store.reports, group.id)
    if latest is None:
        raise UsageError(
            f"{group.folder} has more than one conversation, and no owner has written in any",
            hint="nanohost sessions list; --session ID, or --chat CHAT",
        )
    chat = (await load_chat_names(store)).for_session(latest)
    return latest, (
        f"{group.folder} has several conversations: this is the one that an owner wrote in last, in {chat};"
        " --session or --chat names another"
    )


def _parse_due(text: str | None, timezone: str, context: CommandContext) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_future_moment(text, zone=ZoneInfo(timezone), now=context.clock.now())
    except ValueError as error:
        raise UsageError(str(error), hint="nanohost tasks create --help") from None


def _make_row(task: Task, chat: str | None) -> dict[str, Json]:
    """Returns the row. `chat`: of its session."""
    return {
        "id": task.id,
        "session": task.session_id,
        "chat": chat,
        "status": str(task.status),
        "next_due": _in_task_zone(task.next_due, task.timezone),
        "cron": task.cron,
        "timezone": task.timezone,
        "name": display_name(task),
        "reason": task.reason,
    }


def _in_task_zone(moment: datetime | None, timezone: str) -> Json:
    """Formats a time in the task's own zone, in which its cron expression is written."""
    return None if moment is None else to_json(moment.astimezone(ZoneInfo(timezone)))


def _run_row(run: TaskRun) -> dict[str, Json]:
    usage = run.usage
    return {
        "due": to_json(run.due),
        "started": to_json(run.started_at),
        "ended": to_json(run.ended_at),
        "outcome": to_json(run.outcome) or ("running" if run.started_at else "about to begin"),
        "cost_usd": _format_cost(usage),
        "tokens": usage.tokens_in + usage.tokens_out if usage else None,
        "error": run.error,
    }


def _format_cost(usage: Usage | None) -> Json:
    if usage is None:
        return None
    return UNKNOWN_COST if usage.cost_usd is None else usage.cost_usd


def _render(result: Json) -> str:
    return render_with_table(result, "runs", empty_text="it has not run yet")


COMMANDS = (
    Command(
        words="tasks list",
        help="list tasks: what agents are to do at a time",
        example="nanohost tasks list --session s4kq",
        arguments=ListArgs,
        run=_list,
    ),
    Command(
        words="tasks get",
        help="show one task and its last runs",
        example="nanohost tasks get j7wq",
        arguments=TaskArgs,
        run=_get,
        render=_render,
        positional=("id",),
    ),
    Command(
        words="tasks create",
        help="have an agent do something at a time, once or again and again",
        example='nanohost tasks create --group main --cron "0 9 * * 1-5" --prompt "What is on my list?"',
        arguments=CreateArgs,
        run=_create,
    ),
    Command(
        words="tasks run",
        help="run a task now, once, in addition to its schedule",
        example="nanohost tasks run j7wq",
        arguments=TaskArgs,
        run=_run_now,
        positional=("id",),
    ),
    Command(
        words="tasks pause",
        help="pause a task: it is not run until it is resumed",
        example="nanohost tasks pause j7wq",
        arguments=TaskArgs,
        run=_pause,
        positional=("id",),
    ),
    Command(
        words="tasks resume",
        help="resume a paused task",
        example="nanohost tasks resume j7wq",
        arguments=TaskArgs,
        run=_resume,
        positional=("id",),
    ),
    Command(
        words="tasks cancel",
        help="end a task for good",
        example="nanohost tasks cancel j7wq",
        arguments=TaskArgs,
        run=_cancel,
        positional=("id",),
    ),
    Command(
        words="tasks update",
        help="change what a task is about, or when it is due",
        example='nanohost tasks update j7wq --cron "0 8 * * *"',
        arguments=UpdateArgs,
        run=_update,
        positional=("id",),
    ),
)
