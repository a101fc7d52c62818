"""Deciding: the one place where an approval becomes a yes or a no.

Promises: the claim, its effect, the card edits and the record are what one transaction did: two presses, two people or
two processes give one effect. Who may decide is asked at this very moment, and what runs is what was shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Protocol

from nanohost import quoting
from nanohost.approvals import ending
from nanohost.approvals.card import already, digest_of
from nanohost.approvals.ending import End
from nanohost.approvals.kind import Decided, Kind, Lapsed
from nanohost.approvals.kinds.action import difference
from nanohost.approvals.registry import kinds
from nanohost.approvals.settled import settle
from nanohost.errors import UsageError
from nanohost.model import ApprovalId
from nanohost.phrases import clock_time
from nanohost.store import approvals, users
from nanohost.store.actions import ActionRow
from nanohost.store.approvals import Approval, ApprovalStatus
from nanohost.store.database import Queries, Transaction
from nanohost.store.roles import Grant
from nanohost_protocol.crash_points import reach


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
) -> str:
    """What is said to the one who decided. `choice`: a label of the card, or what is typed for it (an agent's name for
    a chat); None where there is one yes only. `reason` goes with a no. `zone`: of the times people read.

    Raises NotTheirs, and UsageError for one that is decided, expired, or a choice that there is not: nothing is changed
    then. An effect that cannot be is no error: the approval has failed then, and that is what is said.
    """
    found, kind = await _theirs(tx, approval, actor)
    await _still_open(tx, found, now, zone)
    is_yes = verdict is Verdict.APPROVE
    decided = Decided(
        tx=tx,
        approval=found,
        by=actor.who,
        label=await _label(tx, found, kind, choice) if is_yes else found.refusal,
        reason=reason,
        origin=actor.origin,
        now=now,
    )
    status = ApprovalStatus.APPROVED if is_yes else ApprovalStatus.DENIED
    claimed = await approvals.close(
        tx, found.id, status, by=actor.who, choice=decided.label, reason=reason or None, now=now
    )
    assert claimed, "it was open in this very transaction"
    end = await _carry_out(decided, kind, status, quoting.name(actor.name))
    text = await ending.tell(tx, found, end, now=now, zone=zone)
    await settle(tx, now=now, zone=zone)
    reach("approvals.open")
    return text


async def press(
    tx: Transaction,
    approval: ApprovalId,
    *,
    actor: Decider,
    label: str,
    now: datetime,
    zone: tzinfo,
) -> str:
    """The same by a button, whose label says whether it is a yes or a no."""
    found, _ = await _theirs(tx, approval, actor)
    verdict = Verdict.DENY if label == found.refusal else Verdict.APPROVE
    return await decide(tx, approval, actor=actor, verdict=verdict, choice=label, now=now, zone=zone)


def why_not(approval: Approval | None, row: ActionRow) -> str | None:
    """Why this request may not be carried out by this approval, or None: it is approved, for this very row, and name
    and arguments are byte for byte what was shown. Pure."""
    if approval is None or approval.status is not ApprovalStatus.APPROVED:
        return "nobody has said yes to it"
    return difference(approval, row)


async def _theirs(db: Queries, approval: ApprovalId, actor: Decider) -> tuple[Approval, Kind]:
    """Raises NotTheirs."""
    found = await approvals.find(db, approval)
    kind = kinds().get(found.kind) if found else None
    if found is None or kind is None or not (actor.is_local or kind.may_decide(actor.grants, kind.whose(found))):
        raise NotTheirs(
            f"nothing with the id {quoting.name(approval, limit=20)} waits for you", hint="look at the id on its card"
        )
    return found, kind


async def _still_open(db: Queries, found: Approval, now: datetime, zone: tzinfo) -> None:
    """Raises UsageError."""
    if found.status is not ApprovalStatus.PENDING:
        raise UsageError(already(found, by=await _named(db, found.decided_by), now=now, zone=zone))
    if now >= found.expires_at:
        raise UsageError(f"it expired at {clock_time(found.expires_at, now, zone)}; it can be asked for again")


async def _named(db: Queries, who: str | None) -> str:
    """Somebody of the record, for a person."""
    if who is None:
        return ""
    user = await users.find(db, who)
    return quoting.name(user.name if user and user.name else who)


async def _label(db: Queries, found: Approval, kind: Kind, choice: str | None) -> str:
    """The yes that is meant. Raises UsageError."""
    yes = [option for option in found.options if option != found.refusal]
    typed = (choice or "").strip()
    if not typed:
        if len(yes) == 1 or not kind.typed(found):
            return yes[0]
        raise UsageError(f"say which: {', '.join(yes)}", hint=f"/approve {found.id} {kind.typed(found)}")
    label = (
        _labelled(yes, typed) or await kind.more(db, typed) or _ending(yes, typed) or _numbered(found.options, typed)
    )
    if label is None or label == found.refusal:
        raise UsageError(f"there is no such choice as {quoting.name(typed)}; say one of: {', '.join(yes)}")
    return label


def _labelled(options: Sequence[str], typed: str) -> str | None:
    """The option of just this label."""
    return next((option for option in options if option.casefold() == typed.casefold()), None)


def _ending(options: Sequence[str], typed: str) -> str | None:
    """The one option that ends so: `once` for `Allow once`."""
    fitting = [option for option in options if option.casefold().endswith(f" {typed.casefold()}")]
    return fitting[0] if len(fitting) == 1 else None


def _numbered(options: Sequence[str], typed: str) -> str | None:
    """The option of this number, as the card counts them. None of them has three digits."""
    number = int(typed) if typed.isdecimal() and len(typed) < 3 else 0
    return options[number - 1] if 0 < number <= len(options) else None


async def _carry_out(decided: Decided, kind: Kind, status: ApprovalStatus, by: str) -> End:
    """What the decision came to. An effect that cannot be ends it as failed, with all that waits for it."""
    approval = decided.approval
    who = {"who": decided.by, "by": by, "origin": decided.origin, "choice": decided.label}
    try:
        if status is ApprovalStatus.DENIED:
            return End(status=status, outcome=await kind.deny(decided), reason=decided.reason or None, **who)
        if digest_of(approval.shown, approval.payload) != approval.digest:
            raise UsageError("what would run is not what was shown")
        return End(status=status, outcome=await kind.approve(decided), **who)
    except UsageError as error:
        problem = str(error)
    await approvals.fail(decided.tx, approval.id, reason=problem, outcome=problem)
    await kind.lapse(Lapsed(tx=decided.tx, approval=approval, reason=problem, now=decided.now))
    return End(status=ApprovalStatus.FAILED, outcome=f"{problem}.", reason=problem, **who)
