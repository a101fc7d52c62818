"""/deny ID: deny a request, on platforms that have no button to press; a reason may follow."""

from __future__ import annotations

from pydantic import Field

from nanohost.approvals.decision import ApprovalDecision, decide
from nanohost.arguments import CommandArguments
from nanohost.chat_commands.command import RequiredRole
from nanohost.chat_commands.host_command import HostCommand, HostCommandInvocation
from nanohost.model import ApprovalId
from nanohost.text.translation import gettext_noop


class _Arguments(CommandArguments):
    id: str = Field(description=gettext_noop("the id that is on the card"))
    reason: str = Field("", description=gettext_noop("why: whoever asked is told"))


async def _deny(invocation: HostCommandInvocation, arguments: _Arguments) -> str:
    return await decide(
        invocation.tx,
        ApprovalId(arguments.id.lower()),
        actor=invocation.actor,
        decision=ApprovalDecision.DENY,
        reason=arguments.reason,
        now=invocation.now,
        zone=invocation.zone,
    )


COMMAND = HostCommand(
    name="deny",
    help=gettext_noop("deny what waits for you"),
    example=gettext_noop("/deny k3f7qd not before Monday"),
    execute=_deny,
    arguments=_Arguments,
    required_role=RequiredRole.ADMIN,
    is_direct_only=True,
    is_in_shell=False,
)
