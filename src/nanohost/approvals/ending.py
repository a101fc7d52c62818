"""How every approval ends: all copies of its card say what became of it, and the record does. In the transaction that
ends it, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo

from nanohost.approvals.card import closed
from nanohost.approvals.kind import Lapse, Lapsed
from nanohost.store import approvals, audit, deliveries, host_messages
from nanohost.store.approvals import Approval, ApprovalStatus
from nanohost.store.audit import AuditOutcome
from nanohost.store.database import Transaction
from nanohost.store.deliveries import DeliveryStatus
from nanohost.store.domain_events import ApprovalChanged
from nanohost_protocol.ids import derive
from nanohost_protocol.payloads import EditOut

HOST_ITSELF = "host"
_RECORDED = {
    ApprovalStatus.APPROVED: AuditOutcome.ALLOWED,
    ApprovalStatus.DENIED: AuditOutcome.DENIED,
    ApprovalStatus.EXPIRED: AuditOutcome.REFUSED,
    ApprovalStatus.FAILED: AuditOutcome.FAILED,
    ApprovalStatus.WITHDRAWN: AuditOutcome.DONE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """`who`: as the record names them; `by`: as the card does, "" for nobody; `outcome`: a sentence."""

    status: ApprovalStatus
    outcome: str
    who: str = HOST_ITSELF
    by: str = ""
    origin: str = ""
    choice: str | None = None
    reason: str | None = None


async def tell(tx: Transaction, approval: Approval, end: End, *, now: datetime, zone: tzinfo) -> str:
    """It has ended so: say it wherever it was asked. What all read."""
    text = closed(approval, status=end.status, by=end.by, outcome=end.outcome, now=now, zone=zone)
    await approvals.say(tx, approval.id, end.outcome)
    for card in await approvals.cards(tx, approval.id):
        if card.seq is not None:
            await _edit(tx, card.seq, text, derive("h", approval.id, "end", str(card.number)), now)
    await audit.record(
        tx,
        who=end.who,
        what=f"approval.{end.status}",
        about=approval.id,
        origin=end.origin,
        outcome=_RECORDED[end.status],
        now=now,
        details={
            "kind": approval.kind,
            "subject": approval.subject,
            "requested_by": approval.requested_by,
            "choice": end.choice,
            "reason": end.reason,
        },
    )
    tx.emit(ApprovalChanged(approval.id))
    return text


async def lapse(
    tx: Transaction,
    approval: Approval,
    let_go: Lapse,
    end: End,
    *,
    now: datetime,
    zone: tzinfo,
) -> bool:
    """Nobody decides it any more, and what waits for it is told: `let_go` is its kind's. False: somebody has."""
    if not await approvals.close(tx, approval.id, end.status, by=None, choice=None, reason=end.reason, now=now):
        return False
    await let_go(Lapsed(tx=tx, approval=approval, reason=end.reason or end.outcome, now=now))
    await tell(tx, approval, end, now=now, zone=zone)
    return True


async def _edit(tx: Transaction, seq: int, text: str, out_id: str, now: datetime) -> None:
    """A card that nobody has seen is left out; all others say what became of it."""
    card = await host_messages.find(tx, seq)
    if card is None or card.status is DeliveryStatus.DROPPED:
        return
    if card.status is DeliveryStatus.PENDING and card.attempts == 0:
        await deliveries.leave_out(tx, card, "it was decided before it was sent", now)
        return
    place = host_messages.place_of(card)
    await host_messages.say(tx, place, EditOut(message=seq, text=text), out_id=out_id, now=now)
