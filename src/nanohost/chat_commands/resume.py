"""/resume: what /pause stopped goes on."""

from __future__ import annotations

from datetime import timedelta

from nanohost.arguments import Arguments
from nanohost.chat_commands.command import Who
from nanohost.chat_commands.host_command import HostAsked, HostCommand
from nanohost.chat_commands.pause import PAUSED, state
from nanohost.phrases import clock_time, counted
from nanohost.store import audit, host_messages, paused
from nanohost.store.audit import AuditOutcome

NOT_PAUSED = "Nothing is paused."


async def _resume(asked: HostAsked, _: Arguments) -> str:
    pause = await paused.find(asked.tx)
    if pause is None:
        return NOT_PAUSED
    backlog = await paused.backlog(asked.tx, asked.now, tasks_within=timedelta())
    await paused.end(asked.tx)
    await host_messages.withdraw(asked.tx, PAUSED, reason="the pause is over", now=asked.now)
    await audit.record(
        asked.tx,
        who=asked.actor.who,
        what="host.resume",
        outcome=AuditOutcome.DONE,
        now=asked.now,
        origin=asked.actor.origin,
        details={"to_send": backlog.to_send, "conversations": backlog.conversations, "tasks": backlog.tasks},
    )
    goes_on = [
        counted(backlog.conversations, "conversation", "conversations") if backlog.conversations else "",
        f"{counted(backlog.to_send, 'message', 'messages')} to send" if backlog.to_send else "",
        f"{counted(backlog.tasks, 'task', 'tasks')} that fell due" if backlog.tasks else "",
    ]
    said = ", ".join(part for part in goes_on if part) or "nothing waited"
    return f"Everything goes on, after a pause since {clock_time(pause.at, asked.now, asked.zone)}: {said}."


COMMAND = HostCommand(
    name="resume",
    help="go on after /pause",
    example="/resume",
    carry_out=_resume,
    data=state,
    who=Who.OWNER,
)
