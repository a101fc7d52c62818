"""What waits for an approval of a kind that there is no more: its file was taken away since somebody was asked."""

from __future__ import annotations

from nanohost.approvals import held
from nanohost.approvals.kind import Lapsed
from nanohost.store import actions, approvals

REASON = "this host does not know any more what was asked about"


async def lapse(lapsed: Lapsed) -> None:
    """Whatever it was, nothing waits for ever: an agent's request is refused, messages are dropped, on record, and who
    wrote them is told."""
    tx, approval = lapsed.tx, lapsed.approval
    await actions.turn_down(tx, approval.id, reason=lapsed.reason, now=lapsed.now)
    if await approvals.held(tx, approval.id):
        await held.refuse(tx, approval, lapsed.reason, lapsed.now)
        await held.tell_asker(lapsed)
