"""Ends approvals that need no decision any more: the sender has a role, the chat has an agent, or a rule decides.

Call it inside each transaction that may make an approval obsolete: one that grants roles, wires chats, creates rules or
links identities. Promises: held messages and requests go on, and the cards say why, in that transaction. An error in
one kind leaves its approvals open and does not affect other kinds.
"""

from __future__ import annotations

from datetime import datetime, tzinfo

import structlog

from nanohost.approvals import result
from nanohost.approvals.kind import ApprovalKind, ExpiryContext
from nanohost.approvals.registry import approval_kinds
from nanohost.approvals.result import ApprovalResult
from nanohost.db import approvals
from nanohost.db.approvals import ApprovalStatus
from nanohost.db.database import SavepointFailed, Transaction
from nanohost.db.domain_events import ApprovalChanged
from nanohost.text.translation import translate

_log = structlog.get_logger()


async def withdraw_obsolete(tx: Transaction, *, now: datetime, zone: tzinfo) -> None:
    """Withdraws every open approval that needs no decision any more. There are few at any time; for the others, the
    approvers are determined again."""
    for approval in await approvals.list_open(tx):
        kind = approval_kinds().get(approval.kind)
        tx.emit(ApprovalChanged(approval.id))
        if kind is None:
            continue
        why = await _obsolete_reason(kind, ExpiryContext(tx=tx, approval=approval, reason="", now=now))
        if why is None:
            continue
        end = ApprovalResult(status=ApprovalStatus.WITHDRAWN, outcome=translate(why), reason=why.rstrip("."))
        await approvals.close(tx, approval.id, end.status, decided_by=None, choice=None, reason=end.reason, now=now)
        await result.announce_result(tx, approval, end, now=now, zone=zone)


async def _obsolete_reason(kind: ApprovalKind, expiry: ExpiryContext) -> str | None:
    try:
        async with expiry.tx.savepoint():
            return await kind.resolve_obsolete(expiry)
    except SavepointFailed as failed:
        _log.error("approval_check_failed", approval=expiry.approval.id, kind=kind.name, exc_info=failed.__cause__)
        return None
