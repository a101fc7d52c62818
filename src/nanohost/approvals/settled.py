"""Approvals that are settled without a decision: who was asked about has a role by now, the chat has an agent, a rule
decides it.

Called inside each transaction that may have settled one: whoever gives roles, ties chats to agents, makes rules, or
makes two people one. Promises: what waited goes on and the cards say why, in that transaction; what was never asked
about changes nothing; a kind that falls over is left as it is, and keeps nobody from deciding about another.
"""

from __future__ import annotations

from datetime import datetime, tzinfo

import structlog

from nanohost.approvals import ending
from nanohost.approvals.ending import End
from nanohost.approvals.kind import Kind, Lapsed
from nanohost.approvals.registry import kinds
from nanohost.store import approvals
from nanohost.store.approvals import ApprovalStatus
from nanohost.store.database import PartFailed, Transaction
from nanohost.store.domain_events import ApprovalChanged

_log = structlog.get_logger()


async def settle(tx: Transaction, *, now: datetime, zone: tzinfo) -> None:
    """Withdraw every open approval that nobody has to decide any more. There are few at any time; of all it is looked
    again who can be asked."""
    for approval in await approvals.all_open(tx):
        kind = kinds().get(approval.kind)
        tx.emit(ApprovalChanged(approval.id))
        if kind is None:
            continue
        why = await _why(kind, Lapsed(tx=tx, approval=approval, reason="", now=now))
        if why is None:
            continue
        end = End(status=ApprovalStatus.WITHDRAWN, outcome=why, reason=why.rstrip("."))
        await approvals.close(tx, approval.id, end.status, by=None, choice=None, reason=end.reason, now=now)
        await ending.tell(tx, approval, end, now=now, zone=zone)


async def _why(kind: Kind, lapsed: Lapsed) -> str | None:
    try:
        async with lapsed.tx.part():
            return await kind.settled(lapsed)
    except PartFailed as failed:
        _log.error("not_settled", approval=lapsed.approval.id, kind=kind.name, exc_info=failed.__cause__)
        return None
