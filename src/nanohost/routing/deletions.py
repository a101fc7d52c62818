"""A message that is gone from its chat: what of it still waits reaches nobody any more.

Promises: whatever it waited for, a crash leaves it waiting or withdrawn; nobody is asked any more about a stranger who
left nothing to be asked about. What has reached a mailbox stays there: the runner alone knows what it has taken, and
leaves out what it has not (agent_runner/claims.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo

from nanohost.approvals import ending
from nanohost.approvals.ending import End
from nanohost.chat_commands.gate import is_order
from nanohost.model import ApprovalId, EventId
from nanohost.routing.albums import together
from nanohost.store import approvals, events, pieces, routes
from nanohost.store.approvals import ApprovalStatus
from nanohost.store.database import Queries, Transaction
from nanohost.store.events import ChatKey, StoredEvent
from nanohost.store.pieces import Piece
from nanohost.store.routes import Heard

DELETED = "its author deleted it"
NOBODY_READ_IT = "what it deletes had reached no agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What agents got of a deleted message, or are getting, and the deletion as they are to be told of it."""

    deletion: StoredEvent
    reached: list[Heard] = field(default_factory=list)


async def withdraw(tx: Transaction, deletion: StoredEvent, *, now: datetime, zone: tzinfo) -> Told:
    """Drop what waits of the deleted message, or of the piece of an album. Whom it has reached is to be told."""
    message, chat = deletion.event.refers_to, deletion.chat
    if message is None:
        return Told(deletion=deletion)
    piece = await pieces.find(tx, chat, message, like=deletion.event)
    whole = message if piece is None else piece.whole
    if piece is None or not await _take_out(tx, piece.joined_into, [piece.id]):
        await _withdraw_all(tx, chat, whole, now=now, zone=zone)
    heard = await routes.heard(tx, chat, whole)
    reached = [one for one in heard if one.approval_id is None and (one.is_edit or not is_order(one.text))]
    return Told(deletion=await as_told(tx, deletion), reached=reached)


async def take_out_deleted(tx: Transaction, whole: StoredEvent) -> bool:
    """Take those pieces out of a message which is still to be routed whose deletion waits behind it. True: there were
    some; if nothing is left of it, it is dropped."""
    gone = await pieces.just_deleted(tx, whole.id)
    if gone and not await _take_out(tx, whole.id, gone):
        await events.mark_dropped(tx, whole.id, DELETED)
    return bool(gone)


async def _take_out(tx: Transaction, whole: EventId, gone: Sequence[EventId]) -> bool:
    """False: nothing is left of the message, and it stays as it is."""
    await pieces.delete(tx, gone)
    left = await pieces.left(tx, await events.get(tx, whole))
    if left:
        await events.rewrite(tx, whole, together(left))
    return bool(left)


async def as_told(db: Queries, deletion: StoredEvent) -> StoredEvent:
    """The deletion as an agent is told of it: of a piece of an album it says what of the message is gone."""
    message = deletion.event.refers_to
    piece = None if message is None else await pieces.find(db, deletion.chat, message, like=deletion.event)
    if piece is None:
        return deletion
    if await pieces.left(db, await events.get(db, piece.joined_into)):
        return _of_a_piece(deletion, piece)
    return replace(deletion, event=replace(deletion.event, refers_to=piece.whole))


def _of_a_piece(deletion: StoredEvent, piece: Piece) -> StoredEvent:
    """What is told of it: the message that it was in, and what of that is gone."""
    gone = replace(
        deletion.event, refers_to=piece.whole, text=piece.event.text, attachments=piece.event.attachments, parts=()
    )
    return replace(deletion, event=gone)


async def _withdraw_all(tx: Transaction, chat: ChatKey, message: str, *, now: datetime, zone: tzinfo) -> None:
    asked_for = set[ApprovalId]()
    if (found := await events.unsettled(tx, chat, message)) is not None:
        id, approval = found
        await events.mark_dropped(tx, id, DELETED)
        if approval is not None:
            asked_for.add(approval)
            for one in await events.held(tx, approval):
                about = one.event.refers_to
                if one.chat == chat and about is not None and await pieces.whole_of(tx, chat, about) == message:
                    await events.mark_dropped(tx, one.id, DELETED)
    for heard in await routes.heard(tx, chat, message):
        if heard.approval_id is not None:
            await routes.drop_held(tx, heard.event_id, heard.wiring_id, DELETED, now=now)
            asked_for.add(heard.approval_id)
    for approval in sorted(asked_for):
        await _close_if_empty(tx, approval, now=now, zone=zone)


async def _close_if_empty(tx: Transaction, id: ApprovalId, *, now: datetime, zone: tzinfo) -> None:
    approval = await approvals.find(tx, id)
    if approval is None or await approvals.held(tx, id):
        return
    end = End(status=ApprovalStatus.WITHDRAWN, outcome="all that was written was deleted.", reason=DELETED)
    if await approvals.close(tx, id, end.status, by=None, choice=None, reason=end.reason, now=now):
        await ending.tell(tx, approval, end, now=now, zone=zone)
