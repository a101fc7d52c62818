"""/pause: stop all agents and all messages until /resume.

The pause holds from this command's commit on: each send checks it. Running turns are interrupted within two seconds, as
in an orderly stop: they run again later, and the attempt is not counted. Messages of people are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo

from nanohost.arguments import CommandArguments
from nanohost.chat_commands.command import RequiredRole
from nanohost.chat_commands.host_command import HostCommand, HostCommandInvocation
from nanohost.db import audit, paused, sessions, users
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Queries
from nanohost.db.paused import Backlog, InterruptedTurn, PauseState
from nanohost.text import quoting
from nanohost.text.phrases import format_time, format_time_with_zone, pluralize
from nanohost_protocol.payloads import ChatOut

UPCOMING_WINDOW = timedelta(hours=1)
"""Tasks that are due within this time are listed."""
MAX_NAMED = 10
"""The most agents that are listed by name: people read the list on a phone."""
PAUSED_REPLY = ChatOut(text="Everything is paused at the moment. I keep your message and answer when it goes on.")
"""The reply to people who write during the pause."""
NO_TURN_INTERRUPTED = "No agent was in the middle of a turn."


async def _pause(invocation: HostCommandInvocation, _: CommandArguments) -> str:
    earlier = await paused.find(invocation.tx)
    if earlier is not None:
        return await _already_paused(invocation, earlier)
    backlog = await paused.backlog(invocation.tx, invocation.now, tasks_within=UPCOMING_WINDOW)
    folders = [session.group_folder for session in await sessions.list_leased(invocation.tx)]
    await paused.begin(invocation.tx, by=invocation.actor.id, at=invocation.now, place=invocation.actor.chat)
    await audit.record(
        invocation.tx,
        actor=invocation.actor.id,
        action="host.pause",
        outcome=AuditOutcome.DONE,
        now=invocation.now,
        origin=invocation.actor.origin,
        details={"containers": len(folders), "to_send": backlog.to_send, "conversations": backlog.conversations},
    )
    goes_on = invocation.actor.command_text("resume")
    lines = [
        f"Paused: nothing is started or sent until {goes_on}.",
        _format_containers(folders),
        *_format_backlog(backlog, invocation),
    ]
    if invocation.actor.chat is None and folders:
        lines.append("What was cut: nanohost status")
    return "\n".join(lines)


async def _already_paused(invocation: HostCommandInvocation, earlier: PauseState) -> str:
    goes_on = invocation.actor.command_text("resume")
    lines = [await format_pause(invocation.tx, earlier, invocation.now, invocation.zone, resume_command=goes_on)]
    if earlier.interrupted_turns is not None:
        lines.append(format_interrupted_turns(earlier.interrupted_turns, invocation.now, invocation.zone))
    lines += _format_backlog(
        await paused.backlog(invocation.tx, invocation.now, tasks_within=UPCOMING_WINDOW), invocation
    )
    return "\n".join(lines)


async def format_pause(
    db: Queries, pause: PauseState, now: datetime, zone: tzinfo, *, resume_command: str = "/resume"
) -> str:
    """Formats since when the host is paused, and by whom. `resume_command`: the command that ends it."""
    user = await users.find(db, pause.by)
    name = quoting.name(user.name if user is not None and user.name.strip() else pause.by)
    return f"Everything is paused since {format_time(pause.at, now, zone)}, by {name}, until {resume_command}."


def format_interrupted_turns(turns: Sequence[InterruptedTurn], now: datetime, zone: tzinfo) -> str:
    """Formats the turns that were interrupted."""
    if not turns:
        return NO_TURN_INTERRUPTED
    named = [f"- {_format_turn(turn, now, zone)}" for turn in turns[:MAX_NAMED]]
    rest = [f"- and {len(turns) - MAX_NAMED} more"] if len(turns) > MAX_NAMED else []
    return "\n".join(["Cut in the middle of a turn, and run again when it goes on:", *named, *rest])


def _format_turn(turn: InterruptedTurn, now: datetime, zone: tzinfo) -> str:
    if turn.since is None:
        return f"{turn.agent_group}, perhaps: it could not be looked at in time"
    return f"{turn.agent_group}, at work since {format_time(turn.since, now, zone)}"


def _format_containers(folders: Sequence[str]) -> str:
    if not folders:
        return "No container was running."
    names = sorted(set(folders))
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    are = "container is" if len(folders) == 1 else "containers are"
    return f"{len(folders)} {are} being ended: {', '.join(names[:MAX_NAMED])}{more}."


def _format_backlog(backlog: Backlog, invocation: HostCommandInvocation) -> list[str]:
    lines = []
    if backlog.to_send:
        lines.append(f"{pluralize(backlog.to_send, 'message waits', 'messages wait')} to be sent.")
    if backlog.conversations:
        lines.append(
            f"{pluralize(backlog.conversations, 'conversation has', 'conversations have')} something to be worked on."
        )
    if backlog.first_task is not None:
        first = format_time_with_zone(backlog.first_task, invocation.now, invocation.zone)
        lines.append(
            f"{pluralize(backlog.tasks, 'task falls', 'tasks fall')} due within the next hour, first at {first}."
        )
    return lines


async def pause_data(invocation: HostCommandInvocation) -> Mapping[str, object]:
    """Returns as JSON whether the host is paused, since when, by whom, the interrupted turns (null: not known yet), and
    what waits."""
    pause = await paused.find(invocation.tx)
    backlog = await paused.backlog(invocation.tx, invocation.now, tasks_within=UPCOMING_WINDOW)
    return {
        "paused": pause is not None,
        "since": pause and pause.at,
        "by": pause and pause.by,
        "cut": pause and pause.interrupted_turns,
        "waiting": backlog,
    }


COMMAND = HostCommand(
    name="pause",
    help="stop every agent and every message until /resume",
    example="/pause",
    execute=_pause,
    json_data=pause_data,
    required_role=RequiredRole.OWNER,
)
