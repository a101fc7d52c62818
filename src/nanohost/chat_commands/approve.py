"""/approve ID: say yes to what waits for it, where there is no button to press."""

from __future__ import annotations

from pydantic import Field

from nanohost.approvals.decide import Verdict, decide
from nanohost.arguments import Arguments
from nanohost.chat_commands.command import Who
from nanohost.chat_commands.host_command import HostAsked, HostCommand
from nanohost.model import ApprovalId


class _Arguments(Arguments):
    id: str = Field(description="the id that is on the card")
    choice: str = Field("", description="which yes, if the card has several: as it stands on its button")


async def _approve(asked: HostAsked, given: _Arguments) -> str:
    return await decide(
        asked.tx,
        ApprovalId(given.id.lower()),
        actor=asked.actor,
        verdict=Verdict.APPROVE,
        choice=given.choice or None,
        now=asked.now,
        zone=asked.zone,
    )


COMMAND = HostCommand(
    name="approve",
    help="say yes to what waits for you",
    example="/approve k3f7qd",
    carry_out=_approve,
    arguments=_Arguments,
    who=Who.ADMIN,
    private=True,
    in_shell=False,
)
