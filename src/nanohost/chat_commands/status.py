"""/status: show what the agent is doing, since when, and what waits. For people: no ids, times in their zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from nanohost.chat_commands.command import (
    ApplyCommand,
    ChatCommand,
    ChatCommandInvocation,
    ContainerState,
    ContainerStatus,
    Effect,
)
from nanohost.chat_commands.open_messages import open_messages
from nanohost.chat_commands.pause import format_pause
from nanohost.db import paused, tasks, turn_failures
from nanohost.db.tasks import Task, TaskStatus
from nanohost.db.turn_failures import TurnFailures
from nanohost.errors import MailboxError
from nanohost.mailbox import queries
from nanohost.text.phrases import format_time, format_time_with_zone
from nanohost.text.translation import _, gettext_noop, ngettext, translate
from nanohost_protocol.inbound import InboundWriter

MAX_TOOL_CHARS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentActivity:
    """What a runner reports. `turn_started_at`: when the running turn began."""

    claimed_ids: frozenset[str] = frozenset()
    turn_started_at: datetime | None = None
    tool: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusFacts:
    """The data of the reply."""

    container: ContainerStatus
    activity: AgentActivity
    tasks: Sequence[Task]
    recent_failures: TurnFailures | None
    waiting_count: int
    now: datetime
    zone: tzinfo
    pause_text: str = ""
    """Since when the host is paused, and by whom."""


async def _prepare(invocation: ChatCommandInvocation) -> ApplyCommand:
    look = invocation.containers.status(invocation.session.id)
    doing = await _read_activity(invocation) if look.state is not ContainerState.NONE else AgentActivity()
    open_tasks = await tasks.list_open_of_session(invocation.store, invocation.session.id)
    failures = await turn_failures.find(invocation.store, invocation.session.id)
    pause = await paused.find(invocation.store)
    rests = "" if pause is None else await format_pause(invocation.store, pause, invocation.now, invocation.zone)

    def answer(box: InboundWriter) -> Effect:
        unclaimed = sum(1 for one in open_messages(box) if one.trigger and one.id not in doing.claimed_ids)
        facts = StatusFacts(
            container=look,
            activity=doing,
            tasks=open_tasks,
            recent_failures=failures,
            waiting_count=unclaimed,
            now=invocation.now,
            zone=invocation.zone,
            pause_text=rests,
        )
        return Effect(answer=format_status(facts))

    return answer


async def _read_activity(invocation: ChatCommandInvocation) -> AgentActivity:
    try:
        found = await invocation.mailboxes.read_outbound(invocation.session, queries.progress())
    except MailboxError:
        return AgentActivity()
    return AgentActivity() if found is None else _to_activity(found)


def _to_activity(found: queries.RunnerProgress) -> AgentActivity:
    return AgentActivity(
        claimed_ids=frozenset(claim.message_id for claim in found.claims),
        turn_started_at=found.since,
        tool=_sanitize_tool_name(found.state.get("tool", "")) if found.claims else "",
    )


def format_status(facts: StatusFacts) -> str:
    """Formats the status, one sentence per line."""
    lines = [
        facts.pause_text,
        _format_activity(facts),
        _format_waiting(facts.waiting_count),
        _format_scheduled(facts),
        _format_last_error(facts),
    ]
    return "\n".join(line for line in lines if line)


def _format_activity(facts: StatusFacts) -> str:
    if facts.activity.turn_started_at is not None:
        time, tool = _format_time(facts.activity.turn_started_at, facts), facts.activity.tool
        if not tool:
            return _("I have been working since {time}.", time=time)
        return _("I have been working since {time}, now with the tool {tool}.", time=time, tool=tool)
    match facts.container.state:
        case ContainerState.WAITING if not facts.pause_text:
            return _("I wait for a free container.")
        case ContainerState.STARTING:
            return _("I am just starting.")
        case ContainerState.STOPPING:
            return _("I am just stopping.")
        case _ if facts.waiting_count:
            return _("I have not begun yet.")
        case _:
            return _("I am not doing anything.")


def _format_waiting(count: int) -> str:
    return ngettext("{count} message waits.", "{count} messages wait.", count) if count else _("Nothing waits.")


def _format_scheduled(facts: StatusFacts) -> str:
    active = [task.next_due for task in facts.tasks if task.status is TaskStatus.ACTIVE and task.next_due is not None]
    if not active:
        return ""
    return ngettext(
        "{count} task is scheduled, next at {time}.",
        "{count} tasks are scheduled, next at {time}.",
        len(active),
        time=format_time_with_zone(min(active), facts.now, facts.zone),
    )


def _format_last_error(facts: StatusFacts) -> str:
    if facts.recent_failures is not None:
        return _(
            "The last problem, at {time}: {problem}",
            time=_format_time(facts.recent_failures.latest_at, facts),
            problem=translate(facts.recent_failures.sentence),
        )
    return _("My last containers failed; the operator's log says why.") if facts.container.failure else ""


def _format_time(moment: datetime, facts: StatusFacts) -> str:
    return format_time(moment, facts.now, facts.zone)


def _sanitize_tool_name(name: object) -> str:
    """Cleans the name of a tool, which a container wrote."""
    return "".join(letter for letter in str(name)[:MAX_TOOL_CHARS] if letter.isprintable())


COMMAND = ChatCommand(name="status", help=gettext_noop("say what I am doing and what waits"), prepare=_prepare)
