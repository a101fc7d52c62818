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
from nanohost.text.phrases import format_time, format_time_with_zone
from nanohost.text.translation import _, gettext_noop, ngettext

UPCOMING_WINDOW = timedelta(hours=1)
"""Tasks that are due within this time are listed."""
MAX_NAMED = 10
"""The most agents that are listed by name: people read the list on a phone."""
PAUSED_TEXT = gettext_noop("Everything is paused at the moment. I keep your message and answer when it is resumed.")
"""The reply to people who write during the pause."""
NO_TURN_INTERRUPTED = gettext_noop("No agent was in the middle of a turn.")


async def _pause(invocation: HostCommandInvocation, arguments: CommandArguments) -> str:
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
        _("Paused: nothing is started or sent until {command}.", command=goes_on),
        _format_containers(folders),
        *_format_backlog(backlog, invocation),
    ]
    if invocation.actor.chat is None and folders:
        lines.append(_("Which turns were interrupted: nanohost status"))
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
    user = await users.find(db, pause.created_by)
    name = quoting.name(user.name if user is not None and user.name.strip() else pause.created_by)
    return _(
        "Everything is paused since {time}, by {person}, until {command}.",
        time=format_time(pause.created_at, now, zone),
        person=name,
        command=resume_command,
    )


def format_interrupted_turns(turns: Sequence[InterruptedTurn], now: datetime, zone: tzinfo) -> str:
    """Formats the turns that were interrupted."""
    if not turns:
        return _(NO_TURN_INTERRUPTED)
    named = [f"- {_format_turn(turn, now, zone)}" for turn in turns[:MAX_NAMED]]
    rest = [_("- and {count} more", count=len(turns) - MAX_NAMED)] if len(turns) > MAX_NAMED else []
    return "\n".join([_("Interrupted in the middle of a turn, and run again after /resume:"), *named, *rest])


def _format_turn(turn: InterruptedTurn, now: datetime, zone: tzinfo) -> str:
    if turn.since is None:
        return _("{agent}, perhaps: it could not be looked at in time", agent=turn.agent_group)
    return _("{agent}, at work since {time}", agent=turn.agent_group, time=format_time(turn.since, now, zone))


def _format_containers(folders: Sequence[str]) -> str:
    if not folders:
        return _("No container was running.")
    names = sorted(set(folders))
    agents = ", ".join(names[:MAX_NAMED])
    if len(names) > MAX_NAMED:
        agents = _("{agents} and {count} more", agents=agents, count=len(names) - MAX_NAMED)
    return ngettext(
        "{count} container is being ended: {agents}.",
        "{count} containers are being ended: {agents}.",
        len(folders),
        agents=agents,
    )


def _format_backlog(backlog: Backlog, invocation: HostCommandInvocation) -> list[str]:
    lines = []
    if backlog.to_send:
        lines.append(
            ngettext("{count} message waits to be sent.", "{count} messages wait to be sent.", backlog.to_send)
        )
    if backlog.conversations:
        lines.append(
            ngettext(
                "{count} conversation has something to be worked on.",
                "{count} conversations have something to be worked on.",
                backlog.conversations,
            )
        )
    if backlog.first_task is not None:
        first = format_time_with_zone(backlog.first_task, invocation.now, invocation.zone)
        lines.append(
            ngettext(
                "{count} task is due within the next hour, first at {time}.",
                "{count} tasks are due within the next hour, first at {time}.",
                backlog.tasks,
                time=first,
            )
        )
    return lines


async def pause_data(invocation: HostCommandInvocation) -> Mapping[str, object]:
    """Returns as JSON whether the host is paused, since when, by whom, the interrupted turns (null: not known yet), and
    what waits."""
    pause = await paused.find(invocation.tx)
    backlog = await paused.backlog(invocation.tx, invocation.now, tasks_within=UPCOMING_WINDOW)
    return {
        "paused": pause is not None,
        "since": pause and pause.created_at,
        "by": pause and pause.created_by,
        "interrupted_turns": pause and pause.interrupted_turns,
        "waiting": backlog,
    }


COMMAND = HostCommand(
    name="pause",
    help=gettext_noop("stop every agent and every message until /resume"),
    example="/pause",
    execute=_pause,
    json_data=pause_data,
    required_role=RequiredRole.OWNER,
)
