"""Records the result of an approval and updates all copies of its card, in the transaction that ends it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo

from nanohost.approvals.card import format_closed_card
from nanohost.approvals.kind import ExpiryContext, ExpiryHandler
from nanohost.db import approvals, audit, deliveries, host_messages
from nanohost.db.approvals import Approval, ApprovalStatus
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Transaction
from nanohost.db.deliveries import DeliveryStatus
from nanohost.db.domain_events import ApprovalChanged
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import EditOut

HOST_ACTOR = "host"
_AUDIT_OUTCOMES = {
    ApprovalStatus.APPROVED: AuditOutcome.ALLOWED,
    ApprovalStatus.DENIED: AuditOutcome.DENIED,
    ApprovalStatus.EXPIRED: AuditOutcome.REFUSED,
    ApprovalStatus.FAILED: AuditOutcome.FAILED,
    ApprovalStatus.WITHDRAWN: AuditOutcome.DONE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalResult:
    """How an approval ended. `actor_id`: as in the audit log; `actor_name`: as on the card, "" for nobody; `outcome`: a
    sentence."""

    status: ApprovalStatus
    outcome: str
    actor_id: str = HOST_ACTOR
    actor_name: str = ""
    origin: str = ""
    choice: str | None = None
    reason: str | None = None


async def announce_result(
    tx: Transaction, approval: Approval, result: ApprovalResult, *, now: datetime, zone: tzinfo
) -> str:
    """Records the result and updates all cards. Returns the text that they now have."""
    text = format_closed_card(
        approval, status=result.status, decided_by=result.actor_name, outcome=result.outcome, now=now, zone=zone
    )
    await approvals.set_outcome(tx, approval.id, result.outcome)
    for card in await approvals.list_cards(tx, approval.id):
        if card.seq is not None:
            await _edit_card(tx, card.seq, text, derive_id("h", approval.id, "end", str(card.number)), now)
    await audit.record(
        tx,
        actor=result.actor_id,
        action=f"approval.{result.status}",
        target=approval.id,
        origin=result.origin,
        outcome=_AUDIT_OUTCOMES[result.status],
        now=now,
        details={
            "kind": approval.kind,
            "subject": approval.subject,
            "requested_by": approval.requested_by,
            "choice": result.choice,
            "reason": result.reason,
        },
    )
    tx.emit(ApprovalChanged(approval.id))
    return text


async def close_undecided(
    tx: Transaction,
    approval: Approval,
    on_expiry: ExpiryHandler,
    result: ApprovalResult,
    *,
    now: datetime,
    zone: tzinfo,
) -> bool:
    """Ends the approval without a decision; `on_expiry`, of its kind, ends what waits. Returns False if it was decided
    before."""
    if not await approvals.close(
        tx, approval.id, result.status, decided_by=None, choice=None, reason=result.reason, now=now
    ):
        return False
    await on_expiry(ExpiryContext(tx=tx, approval=approval, reason=result.reason or result.outcome, now=now))
    await announce_result(tx, approval, result, now=now, zone=zone)
    return True


async def _edit_card(tx: Transaction, seq: int, text: str, out_id: str, now: datetime) -> None:
    """Changes a card to the outcome. A card that was not sent is left out."""
    card = await host_messages.find(tx, seq)
    if card is None or card.status is DeliveryStatus.DROPPED:
        return
    if card.status is DeliveryStatus.PENDING and card.attempts == 0:
        await deliveries.skip(tx, card, "it was decided before it was sent", now)
        return
    place = host_messages.origin_of(card)
    await host_messages.enqueue(tx, place, EditOut(message=seq, text=text), out_id=out_id, now=now)
