"""/resume: end the pause."""

from __future__ import annotations

from datetime import timedelta

from nanohost.arguments import CommandArguments
from nanohost.chat_commands.command import RequiredRole
from nanohost.chat_commands.host_command import HostCommand, HostCommandInvocation
from nanohost.chat_commands.pause import PAUSED_REPLY, pause_data
from nanohost.db import audit, host_messages, paused
from nanohost.db.audit import AuditOutcome
from nanohost.text.phrases import format_time, pluralize

NOT_PAUSED = "Nothing is paused."


async def _resume(invocation: HostCommandInvocation, _: CommandArguments) -> str:
    pause = await paused.find(invocation.tx)
    if pause is None:
        return NOT_PAUSED
    backlog = await paused.backlog(invocation.tx, invocation.now, tasks_within=timedelta())
    await paused.end(invocation.tx)
    await host_messages.withdraw(invocation.tx, PAUSED_REPLY, reason="the pause is over", now=invocation.now)
    await audit.record(
        invocation.tx,
        actor=invocation.actor.id,
        action="host.resume",
        outcome=AuditOutcome.DONE,
        now=invocation.now,
        origin=invocation.actor.origin,
        details={"to_send": backlog.to_send, "conversations": backlog.conversations, "tasks": backlog.tasks},
    )
    goes_on = [
        pluralize(backlog.conversations, "conversation", "conversations") if backlog.conversations else "",
        f"{pluralize(backlog.to_send, 'message', 'messages')} to send" if backlog.to_send else "",
        f"{pluralize(backlog.tasks, 'task', 'tasks')} that were due" if backlog.tasks else "",
    ]
    resumed = ", ".join(part for part in goes_on if part) or "nothing waited"
    return f"Resumed (paused since {format_time(pause.at, invocation.now, invocation.zone)}): {resumed}."


COMMAND = HostCommand(
    name="resume",
    help="go on after /pause",
    example="/resume",
    execute=_resume,
    json_data=pause_data,
    required_role=RequiredRole.OWNER,
)
