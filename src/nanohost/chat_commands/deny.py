"""/deny ID: say no to what waits for you, where there is no button to press; a reason may follow."""

from __future__ import annotations

from pydantic import Field

from nanohost.approvals.decide import Verdict, decide
from nanohost.arguments import Arguments
from nanohost.chat_commands.command import Who
from nanohost.chat_commands.host_command import HostAsked, HostCommand
from nanohost.model import ApprovalId


class _Arguments(Arguments):
    id: str = Field(description="the id that is on the card")
    reason: str = Field("", description="why: whoever asked is told")


async def _deny(asked: HostAsked, given: _Arguments) -> str:
    return await decide(
        asked.tx,
        ApprovalId(given.id.lower()),
        actor=asked.actor,
        verdict=Verdict.DENY,
        reason=given.reason,
        now=asked.now,
        zone=asked.zone,
    )


COMMAND = HostCommand(
    name="deny",
    help="say no to what waits for you",
    example="/deny k3f7qd not before Monday",
    carry_out=_deny,
    arguments=_Arguments,
    who=Who.ADMIN,
    private=True,
    in_shell=False,
)
