"""/link: issue a code that links two identities of one person. It is typed on the other platform."""

from __future__ import annotations

from nanohost.access.codes import issue
from nanohost.arguments import CommandArguments
from nanohost.chat_commands.command import RequiredRole
from nanohost.chat_commands.host_command import HostCommand, HostCommandInvocation
from nanohost.db.codes import CodePurpose
from nanohost.text.phrases import format_time_with_zone
from nanohost.text.translation import _, gettext_noop


async def _link(invocation: HostCommandInvocation, arguments: CommandArguments) -> str:
    actor = invocation.actor
    issued = await issue(
        invocation.tx,
        CodePurpose.LINK,
        channel_type=None,
        user_id=actor.id,
        created_by=actor.id,
        origin=actor.origin,
        now=invocation.now,
    )
    until = format_time_with_zone(issued.expires_at, invocation.now, invocation.zone)
    how = _(
        "Write this to me on the other platform, in a direct message and before {time}: you may do the same there as"
        " here then. It works once; give it to nobody.",
        time=until,
    )
    return f"{issued.code}\n{how}"


COMMAND = HostCommand(
    name="link",
    help=gettext_noop("link your account on another platform"),
    example="/link",
    execute=_link,
    required_role=RequiredRole.ANY_ROLE,
    is_direct_only=True,
    is_in_shell=False,
)
