"""/approve ID: approve a request, on platforms that have no button to press."""

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
    choice: str = Field(
        "", description=gettext_noop("which choice, if the card has several: as it stands on its button")
    )


async def _approve(invocation: HostCommandInvocation, arguments: _Arguments) -> str:
    return await decide(
        invocation.tx,
        ApprovalId(arguments.id.lower()),
        actor=invocation.actor,
        decision=ApprovalDecision.APPROVE,
        choice=arguments.choice or None,
        now=invocation.now,
        zone=invocation.zone,
    )


COMMAND = HostCommand(
    name="approve",
    help=gettext_noop("approve what waits for you"),
    example="/approve k3f7qd",
    execute=_approve,
    arguments=_Arguments,
    required_role=RequiredRole.ADMIN,
    is_direct_only=True,
    is_in_shell=False,
)
