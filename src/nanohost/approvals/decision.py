"""Applies a person's decision: the one place where an approval is approved or denied.

Promises: the claim, the effect, the card edits and the audit entry are one transaction: two presses, two people or two
processes cause one effect. Permissions are checked at the time of the decision, and what is carried out is what was
shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Protocol

from nanohost.approvals import result
from nanohost.approvals.card import compute_digest, format_already_decided
from nanohost.approvals.kind import ApprovalKind, DecisionContext, ExpiryContext
from nanohost.approvals.kinds.action import find_mismatch
from nanohost.approvals.obsolete import withdraw_obsolete
from nanohost.approvals.registry import approval_kinds
from nanohost.approvals.result import ApprovalResult
from nanohost.db import approvals, users
from nanohost.db.actions import ActionRow
from nanohost.db.approvals import Approval, ApprovalStatus
from nanohost.db.database import Queries, Transaction
from nanohost.db.roles import RoleGrant
from nanohost.errors import UsageError
from nanohost.model import ApprovalId
from nanohost.text import quoting
from nanohost.text.phrases import format_time
from nanohost.text.translation import lazy_gettext, translate_error
from nanohost_protocol.crash_points import crash_point


class Decider(Protocol):
    """Who decides: an `Actor`, or anything like one."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def grants(self) -> Sequence[RoleGrant]: ...
    @property
    def is_local(self) -> bool: ...
    @property
    def origin(self) -> str: ...


class ApprovalDecision(StrEnum):
    APPROVE = "approve"
    DENY = "deny"


class ApprovalNotFound(UsageError):
    """There is no approval of this id, or the actor may not decide it; the message does not say which."""


async def decide(
    tx: Transaction,
    approval: ApprovalId,
    *,
    actor: Decider,
    decision: ApprovalDecision,
    choice: str | None = None,
    reason: str = "",
    now: datetime,
    zone: tzinfo,
) -> str:
    """Applies the decision and returns the reply to the actor.

    `choice`: a label of the card, or what is typed for it (an agent's name for a chat); None if there is only one way
    to approve. `reason`: for a denial. `zone`: the time zone of times that people read.

    Raises ApprovalNotFound; and UsageError if it is already decided or expired, or the choice does not exist. Nothing
    is changed then. If the effect is not possible, that is no error: the approval has failed, and the reply says so.
    """
    found, kind = await _find_decidable(tx, approval, actor)
    await _check_open(tx, found, now, zone)
    is_yes = decision is ApprovalDecision.APPROVE
    decided = DecisionContext(
        tx=tx,
        approval=found,
        actor_id=actor.id,
        label=await _resolve_label(tx, found, kind, choice) if is_yes else found.denial_option,
        reason=reason,
        origin=actor.origin,
        now=now,
    )
    status = ApprovalStatus.APPROVED if is_yes else ApprovalStatus.DENIED
    claimed = await approvals.close(
        tx, found.id, status, decided_by=actor.id, choice=decided.label, reason=reason or None, now=now
    )
    assert claimed, "it was open in this very transaction"
    end = await _apply_decision(decided, kind, status, quoting.name(actor.name))
    text = await result.announce_result(tx, found, end, now=now, zone=zone)
    await withdraw_obsolete(tx, now=now, zone=zone)
    crash_point("approvals.open")
    return text


async def decide_by_button(
    tx: Transaction,
    approval: ApprovalId,
    *,
    actor: Decider,
    number: int,
    now: datetime,
    zone: tzinfo,
) -> str:
    """Applies a decision by button. `number`: of the option on the card, from 1. See `decide`."""
    found, _kind = await _find_decidable(tx, approval, actor)
    label = found.options[number - 1]
    verdict = ApprovalDecision.DENY if label == found.denial_option else ApprovalDecision.APPROVE
    return await decide(tx, approval, actor=actor, decision=verdict, choice=label, now=now, zone=zone)


def find_approval_problem(approval: Approval | None, row: ActionRow) -> str | None:
    """Returns why this approval does not permit the request. Pure.

    Returns None if it is approved for this row, and the name and arguments are exactly those shown, byte for byte.
    """
    if approval is None or approval.status is not ApprovalStatus.APPROVED:
        return "nobody has approved it"
    return find_mismatch(approval, row)


async def _find_decidable(db: Queries, approval: ApprovalId, actor: Decider) -> tuple[Approval, ApprovalKind]:
    """Returns the approval and its kind if the actor may decide it. Raises ApprovalNotFound."""
    found = await approvals.find(db, approval)
    kind = approval_kinds().get(found.kind) if found else None
    if (
        found is None
        or kind is None
        or not (actor.is_local or kind.may_decide(actor.grants, kind.deciding_group(found)))
    ):
        raise ApprovalNotFound(
            lazy_gettext("nothing with the id {id} waits for you", id=quoting.name(approval, limit=20)),
            hint=lazy_gettext("look at the id on its card"),
        )
    return found, kind


async def _check_open(db: Queries, approval: Approval, now: datetime, zone: tzinfo) -> None:
    """Raises UsageError if the approval is not open."""
    if approval.status is not ApprovalStatus.PENDING:
        raise UsageError(
            format_already_decided(
                approval, decided_by=await _display_name(db, approval.decided_by), now=now, zone=zone
            )
        )
    if now >= approval.expires_at:
        time = format_time(approval.expires_at, now, zone)
        raise UsageError(lazy_gettext("it expired at {time}; it can be asked for again", time=time))


async def _display_name(db: Queries, actor_id: str | None) -> str:
    """Returns the display name of an actor id from the audit log."""
    if actor_id is None:
        return ""
    user = await users.find(db, actor_id)
    return quoting.name(user.name if user and user.name else actor_id)


async def _resolve_label(db: Queries, approval: Approval, kind: ApprovalKind, choice: str | None) -> str:
    """Returns the option that was chosen. Raises UsageError."""
    yes = [option for option in approval.options if option != approval.denial_option]
    shown = {option: kind.option_label(option) for option in yes}
    typed = (choice or "").strip()
    if not typed:
        if len(yes) == 1 or not kind.typed_example(approval):
            return yes[0]
        raise UsageError(
            lazy_gettext("say which: {choices}", choices=", ".join(shown[option] for option in yes)),
            hint=f"/approve {approval.id} {kind.typed_example(approval)}",
        )
    label = (
        _match_label(shown, typed)
        or _match_label({option: option for option in yes}, typed)
        or await kind.match_unlisted_choice(db, typed)
        or _match_suffix(shown, typed)
        or _match_number(approval.options, typed)
    )
    if label is None or label == approval.denial_option:
        raise UsageError(
            lazy_gettext(
                "there is no such choice as {choice}; say one of: {choices}",
                choice=quoting.name(typed),
                choices=", ".join(shown[option] for option in yes),
            )
        )
    return label


def _match_label(labels: Mapping[str, str], typed: str) -> str | None:
    """Returns the option with exactly this label. `labels`: by the option."""
    return next((option for option, label in labels.items() if label.casefold() == typed.casefold()), None)


def _match_suffix(labels: Mapping[str, str], typed: str) -> str | None:
    """Returns the only option with this ending, such as `Allow once` for `once`."""
    fitting = [option for option, label in labels.items() if label.casefold().endswith(f" {typed.casefold()}")]
    return fitting[0] if len(fitting) == 1 else None


def _match_number(options: Sequence[str], typed: str) -> str | None:
    """Returns the option with this number on the card. Numbers have at most two digits."""
    number = int(typed) if typed.isdecimal() and len(typed) < 3 else 0
    return options[number - 1] if 0 < number <= len(options) else None


async def _apply_decision(
    context: DecisionContext, kind: ApprovalKind, status: ApprovalStatus, actor_name: str
) -> ApprovalResult:
    """Carries out the decision and returns its result. If the effect is not possible, the approval has failed, and what
    waits for it ends."""
    approval = context.approval
    who = {"actor_id": context.actor_id, "actor_name": actor_name, "origin": context.origin, "choice": context.label}
    try:
        if status is ApprovalStatus.DENIED:
            return ApprovalResult(status=status, outcome=await kind.deny(context), reason=context.reason or None, **who)
        if compute_digest(approval.rendered_text, approval.payload) != approval.digest:
            raise UsageError(lazy_gettext("what would run is not what was shown"))
        return ApprovalResult(status=status, outcome=await kind.approve(context), **who)
    except UsageError as error:
        problem, outcome = str(error), f"{translate_error(error)}."
    await approvals.mark_failed(context.tx, approval.id, reason=problem, outcome=outcome)
    await kind.expire(ExpiryContext(tx=context.tx, approval=approval, reason=problem, now=context.now))
    return ApprovalResult(status=ApprovalStatus.FAILED, outcome=outcome, reason=problem, **who)
