"""/status: what the agent is doing, since when, and what waits. For people: no ids, times in their zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from nanohost.chat_commands.command import Asked, CarryOut, ChatCommand, ContainerState, Effect, Look
from nanohost.chat_commands.pause import since_and_by
from nanohost.chat_commands.waiting import waiting
from nanohost.errors import MailboxError
from nanohost.mailbox import queries
from nanohost.phrases import clock_time, counted, planned_time
from nanohost.store import paused, tasks, turn_failures
from nanohost.store.tasks import Task, TaskStatus
from nanohost.store.turn_failures import TurnFailures
from nanohost_protocol.inbound import InboundWriter

TOOL_CHARACTERS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """What a runner says of itself. `since`: the turn that runs began."""

    claimed: frozenset[str] = frozenset()
    since: datetime | None = None
    tool: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the answer is made of."""

    look: Look
    doing: Doing
    tasks: Sequence[Task]
    failures: TurnFailures | None
    waiting: int
    now: datetime
    zone: tzinfo
    paused: str = ""
    """Since when nothing goes on, and by whom."""


async def _prepare(asked: Asked) -> CarryOut:
    look = asked.containers.look(asked.session.id)
    doing = await _doing(asked) if look.state is not ContainerState.NONE else Doing()
    open_tasks = await tasks.open_of_session(asked.store, asked.session.id)
    failures = await turn_failures.find(asked.store, asked.session.id)
    pause = await paused.find(asked.store)
    rests = "" if pause is None else await since_and_by(asked.store, pause, asked.now, asked.zone)

    def answer(box: InboundWriter) -> Effect:
        unclaimed = sum(1 for one in waiting(box) if one.trigger and one.id not in doing.claimed)
        facts = Facts(
            look=look,
            doing=doing,
            tasks=open_tasks,
            failures=failures,
            waiting=unclaimed,
            now=asked.now,
            zone=asked.zone,
            paused=rests,
        )
        return Effect(answer=status(facts))

    return answer


async def _doing(asked: Asked) -> Doing:
    try:
        found = await asked.mailboxes.outbound(asked.session, queries.progress())
    except MailboxError:
        return Doing()
    return Doing() if found is None else _shown(found)


def _shown(found: queries.Doing) -> Doing:
    return Doing(
        claimed=frozenset(claim.message_id for claim in found.claims),
        since=found.since,
        tool=_printable(found.state.get("tool", "")) if found.claims else "",
    )


def status(facts: Facts) -> str:
    """A sentence a line."""
    lines = [facts.paused, _doing_now(facts), _what_waits(facts.waiting), _scheduled(facts), _last_error(facts)]
    return "\n".join(line for line in lines if line)


def _doing_now(facts: Facts) -> str:
    if facts.doing.since is not None:
        tool = f", now with the tool {facts.doing.tool}" if facts.doing.tool else ""
        return f"I am working since {_time(facts.doing.since, facts)}{tool}."
    match facts.look.state:
        case ContainerState.WAITING if not facts.paused:
            return "I wait for a free place to work in."
        case ContainerState.STARTING:
            return "I am just starting."
        case ContainerState.STOPPING:
            return "I am just stopping."
        case _ if facts.waiting:
            return "I have not begun yet."
        case _:
            return "I am not doing anything."


def _what_waits(count: int) -> str:
    return f"{counted(count, 'message waits', 'messages wait')}." if count else "Nothing waits."


def _scheduled(facts: Facts) -> str:
    active = [task.next_due for task in facts.tasks if task.status is TaskStatus.ACTIVE and task.next_due is not None]
    if not active:
        return ""
    are = counted(len(active), "task is scheduled", "tasks are scheduled")
    return f"{are}, next at {planned_time(min(active), facts.now, facts.zone)}."


def _last_error(facts: Facts) -> str:
    if facts.failures is not None:
        return f"The last problem, at {_time(facts.failures.latest_at, facts)}: {facts.failures.sentence}"
    return "My last containers failed; the operator's log says why." if facts.look.trouble else ""


def _time(moment: datetime, facts: Facts) -> str:
    return clock_time(moment, facts.now, facts.zone)


def _printable(name: object) -> str:
    """A container wrote it."""
    return "".join(letter for letter in str(name)[:TOOL_CHARACTERS] if letter.isprintable())


COMMAND = ChatCommand(name="status", help="say what I am doing and what waits", prepare=_prepare)
