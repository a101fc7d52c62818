"""/pause: nothing is started and nothing is sent, anywhere, until /resume.

What is on record holds from this command's commit on: each send looks at it. Turns that are under way are ended within
two seconds, as in an orderly stop: they are run again later, and count as no try. What people write is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo

from nanohost import quoting
from nanohost.arguments import Arguments
from nanohost.chat_commands.command import Who
from nanohost.chat_commands.host_command import HostAsked, HostCommand
from nanohost.phrases import clock_time, counted, planned_time
from nanohost.store import audit, paused, sessions, users
from nanohost.store.audit import AuditOutcome
from nanohost.store.database import Queries
from nanohost.store.paused import Backlog, CutTurn, Paused
from nanohost_protocol.payloads import ChatOut

SOON = timedelta(hours=1)
"""Tasks that fall due within it are told of."""
MOST_NAMED = 10
"""Agents, by name: the list is read on a phone."""
PAUSED = ChatOut(text="Everything is paused at the moment. I keep your message and answer when it goes on.")
"""To who writes meanwhile: what they hear, once a pause and chat."""
NOTHING_CUT = "No agent was in the middle of a turn."


async def _pause(asked: HostAsked, _: Arguments) -> str:
    earlier = await paused.find(asked.tx)
    if earlier is not None:
        return await _already(asked, earlier)
    backlog = await paused.backlog(asked.tx, asked.now, tasks_within=SOON)
    folders = [session.group_folder for session in await sessions.leased(asked.tx)]
    await paused.begin(asked.tx, by=asked.actor.who, at=asked.now, place=asked.actor.place)
    await audit.record(
        asked.tx,
        who=asked.actor.who,
        what="host.pause",
        outcome=AuditOutcome.DONE,
        now=asked.now,
        origin=asked.actor.origin,
        details={"containers": len(folders), "to_send": backlog.to_send, "conversations": backlog.conversations},
    )
    goes_on = asked.actor.types("resume")
    lines = [f"Paused: nothing is started or sent until {goes_on}.", _containers(folders), *_waiting(backlog, asked)]
    if asked.actor.place is None and folders:
        lines.append("What was cut: nanohost status")
    return "\n".join(lines)


async def _already(asked: HostAsked, earlier: Paused) -> str:
    goes_on = asked.actor.types("resume")
    lines = [await since_and_by(asked.tx, earlier, asked.now, asked.zone, goes_on=goes_on)]
    if earlier.cut is not None:
        lines.append(cut_in_words(earlier.cut, asked.now, asked.zone))
    lines += _waiting(await paused.backlog(asked.tx, asked.now, tasks_within=SOON), asked)
    return "\n".join(lines)


async def since_and_by(db: Queries, pause: Paused, now: datetime, zone: tzinfo, *, goes_on: str = "/resume") -> str:
    """Since when all is paused, and by whom. `goes_on`: what is typed to end it."""
    user = await users.find(db, pause.by)
    name = quoting.name(user.name if user is not None and user.name.strip() else pause.by)
    return f"Everything is paused since {clock_time(pause.at, now, zone)}, by {name}, until {goes_on}."


def cut_in_words(cut: Sequence[CutTurn], now: datetime, zone: tzinfo) -> str:
    """Which turns were ended."""
    if not cut:
        return NOTHING_CUT
    named = [f"- {_turn(turn, now, zone)}" for turn in cut[:MOST_NAMED]]
    rest = [f"- and {len(cut) - MOST_NAMED} more"] if len(cut) > MOST_NAMED else []
    return "\n".join(["Cut in the middle of a turn, and run again when it goes on:", *named, *rest])


def _turn(turn: CutTurn, now: datetime, zone: tzinfo) -> str:
    if turn.since is None:
        return f"{turn.agent_group}, perhaps: it could not be looked at in time"
    return f"{turn.agent_group}, at work since {clock_time(turn.since, now, zone)}"


def _containers(folders: Sequence[str]) -> str:
    if not folders:
        return "No container was running."
    names = sorted(set(folders))
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    are = "container is" if len(folders) == 1 else "containers are"
    return f"{len(folders)} {are} being ended: {', '.join(names[:MOST_NAMED])}{more}."


def _waiting(backlog: Backlog, asked: HostAsked) -> list[str]:
    lines = []
    if backlog.to_send:
        lines.append(f"{counted(backlog.to_send, 'message waits', 'messages wait')} to be sent.")
    if backlog.conversations:
        lines.append(
            f"{counted(backlog.conversations, 'conversation has', 'conversations have')} something to be worked on."
        )
    if backlog.first_task is not None:
        first = planned_time(backlog.first_task, asked.now, asked.zone)
        lines.append(
            f"{counted(backlog.tasks, 'task falls', 'tasks fall')} due within the next hour, first at {first}."
        )
    return lines


async def state(asked: HostAsked) -> Mapping[str, object]:
    """Whether all is paused, since when, by whom, what was cut (null: it is not known yet), and what waits."""
    pause = await paused.find(asked.tx)
    backlog = await paused.backlog(asked.tx, asked.now, tasks_within=SOON)
    return {
        "paused": pause is not None,
        "since": pause and pause.at,
        "by": pause and pause.by,
        "cut": pause and pause.cut,
        "waiting": backlog,
    }


COMMAND = HostCommand(
    name="pause",
    help="stop every agent and every message until /resume",
    example="/pause",
    carry_out=_pause,
    data=state,
    who=Who.OWNER,
)
