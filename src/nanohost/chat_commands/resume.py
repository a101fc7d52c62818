"""/resume: end the pause."""

from __future__ import annotations

from datetime import timedelta

from nanohost.arguments import CommandArguments
from nanohost.chat_commands.command import RequiredRole
from nanohost.chat_commands.host_command import HostCommand, HostCommandInvocation
from nanohost.chat_commands.pause import PAUSED_TEXT, pause_data
from nanohost.db import audit, host_messages, paused
from nanohost.db.audit import AuditOutcome
from nanohost.text.phrases import format_time
from nanohost.text.translation import _, gettext_noop, known_forms, ngettext
from nanohost_protocol.payloads import ChatOut

NOT_PAUSED = gettext_noop("Nothing is paused.")


async def _resume(invocation: HostCommandInvocation, arguments: CommandArguments) -> str:
    pause = await paused.find(invocation.tx)
    if pause is None:
        return _(NOT_PAUSED)
    backlog = await paused.backlog(invocation.tx, invocation.now, tasks_within=timedelta())
    await paused.end(invocation.tx)
    for text in known_forms(PAUSED_TEXT):
        await host_messages.withdraw(invocation.tx, ChatOut(text=text), reason="the pause is over", now=invocation.now)
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
        ngettext("{count} conversation", "{count} conversations", count) if (count := backlog.conversations) else "",
        ngettext("{count} message to send", "{count} messages to send", count) if (count := backlog.to_send) else "",
        ngettext("{count} task that was due", "{count} tasks that were due", count) if (count := backlog.tasks) else "",
    ]
    resumed = ", ".join(part for part in goes_on if part) or _("nothing waited")
    since = format_time(pause.created_at, invocation.now, invocation.zone)
    return _("Resumed (paused since {time}): {backlog}.", time=since, backlog=resumed)


COMMAND = HostCommand(
    name="resume",
    help=gettext_noop("resume after /pause"),
    example="/resume",
    execute=_resume,
    json_data=pause_data,
    required_role=RequiredRole.OWNER,
)
