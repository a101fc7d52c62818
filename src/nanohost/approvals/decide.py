"""Deciding: the one place where an approval becomes a yes or a no.

Promises: the claim, its effect, the card edits and the record are what one transaction did: two presses, two people or
two processes give one effect. Who may decide is asked at this very moment, and what runs is what was shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Protocol

from nanohost.aftermath import Aftermath
from nanohost.errors import UsageError
from nanohost.model import ApprovalId
from nanohost.store.actions import ActionRow
from nanohost.store.approvals import Approval
from nanohost.store.database import Transaction
from nanohost.store.roles import Grant


class Decider(Protocol):
    """Who decides: an `Actor`, or anything like one."""

    @property
    def who(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def grants(self) -> Sequence[Grant]: ...
    @property
    def is_local(self) -> bool: ...
    @property
    def origin(self) -> str: ...


class Verdict(StrEnum):
    APPROVE = "approve"
    DENY = "deny"


class NotTheirs(UsageError):
    """There is none of this id, or none that they may decide: it tells nothing about it."""


async def decide(
    tx: Transaction,
    approval: ApprovalId,
    *,
    actor: Decider,
    verdict: Verdict,
    choice: str | None = None,
    reason: str = "",
    now: datetime,
    zone: tzinfo,
    aftermath: Aftermath,
) -> str:
    """What is said to the one who decided. `choice`: a label of the card, or what is typed for it (an agent's name for
    a chat); None where there is one yes only. `reason` goes with a no. `zone`: of the times people read.

    Raises NotTheirs, and UsageError for one that is decided, expired, or a choice that there is not: nothing is changed
    then. An effect that cannot be is no error: the approval has failed then, and that is what is said.
    """
    raise NotImplementedError


def why_not(approval: Approval | None, row: ActionRow) -> str | None:
    """Why this request may not be carried out by this approval, or None: it is approved, for this very row, and name
    and arguments are byte for byte what was shown. Pure."""
    raise NotImplementedError
