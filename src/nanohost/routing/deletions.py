"""A message that is gone from its chat: what of it still waits reaches nobody any more.

Promises: whatever it waited for, a crash leaves it waiting or withdrawn; nobody is asked any more about a stranger who
left nothing to be asked about. What has reached a mailbox stays there: the runner alone knows what it has taken, and
leaves out what it has not (agent_runner/claims.py).
"""

from __future__ import annotations

from datetime import datetime, tzinfo

from nanohost.aftermath import Aftermath
from nanohost.approvals import ending
from nanohost.approvals.ending import End
from nanohost.chat_commands.gate import is_order
from nanohost.model import ApprovalId
from nanohost.store import approvals, events, routes
from nanohost.store.approvals import ApprovalStatus
from nanohost.store.database import Transaction
from nanohost.store.events import StoredEvent
from nanohost.store.routes import Heard

DELETED = "its author deleted it"
NOBODY_READ_IT = "what it deletes had reached no agent"


async def withdraw(
    tx: Transaction, deletion: StoredEvent, *, now: datetime, zone: tzinfo, aftermath: Aftermath
) -> list[Heard]:
    """Drop what waits of the deleted message. What agents got of it, or are getting: they are to be told."""
    message, chat = deletion.event.refers_to, deletion.chat
    if message is None:
        return []
    asked_for = set[ApprovalId]()
    if (found := await events.unsettled(tx, chat, message)) is not None:
        id, approval = found
        await events.mark_dropped(tx, id, DELETED)
        if approval is not None:
            asked_for.add(approval)
            for one in await events.held(tx, approval):
                if one.chat == chat and one.event.refers_to == message:
                    await events.mark_dropped(tx, one.id, DELETED)
    reached = []
    for heard in await routes.heard(tx, chat, message):
        if heard.approval_id is None:
            reached.append(heard)
            continue
        await routes.let_go(tx, heard.event_id, heard.wiring_id, DELETED)
        asked_for.add(heard.approval_id)
    for approval in sorted(asked_for):
        await _close_if_empty(tx, approval, now=now, zone=zone, aftermath=aftermath)
    return [one for one in reached if one.is_edit or not is_order(one.text)]


async def _close_if_empty(
    tx: Transaction, id: ApprovalId, *, now: datetime, zone: tzinfo, aftermath: Aftermath
) -> None:
    approval = await approvals.find(tx, id)
    if approval is None or await approvals.held(tx, id):
        return
    end = End(status=ApprovalStatus.WITHDRAWN, outcome="all that was written was deleted.", reason=DELETED)
    if await approvals.close(tx, id, end.status, by=None, choice=None, reason=end.reason, now=now):
        await ending.tell(tx, approval, end, now=now, zone=zone, aftermath=aftermath)
