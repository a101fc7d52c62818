"""Withdraws the parts of a deleted message that still wait.

Promises: after a crash the message is either still waiting or withdrawn. The approval for an unknown sender is
withdrawn when all their held messages are deleted. Rows in a mailbox stay there: only the runner knows what it has
claimed, and it leaves out what it has not (agent_runner/claims.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo

from nanohost.approvals import result
from nanohost.approvals.result import ApprovalResult
from nanohost.chat_commands.classify import is_chat_command
from nanohost.db import album_parts, approvals, events, routes
from nanohost.db.album_parts import AlbumPiece
from nanohost.db.approvals import ApprovalStatus
from nanohost.db.database import Queries, Transaction
from nanohost.db.events import ChatKey, StoredEvent
from nanohost.db.routes import RoutedMessage
from nanohost.model import ApprovalId, EventId
from nanohost.routing.albums import merge_pieces
from nanohost.text.translation import _

DELETED_BY_AUTHOR = "its author deleted it"
DELETED_BEFORE_DELIVERY = "what it deletes had reached no agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionNotice:
    """The agents that received a deleted message, or are receiving it, and the deletion as they read it."""

    deletion: StoredEvent
    recipients: list[RoutedMessage] = field(default_factory=list)


async def withdraw(tx: Transaction, deletion: StoredEvent, *, now: datetime, zone: tzinfo) -> DeletionNotice:
    """Drops what waits of the deleted message or album piece; returns the agents to notify."""
    message, chat = deletion.event.refers_to, deletion.chat
    if message is None:
        return DeletionNotice(deletion=deletion)
    piece = await album_parts.find(tx, chat, message, template=deletion.event)
    whole = message if piece is None else piece.whole_message_id
    if piece is None or not await _remove_pieces(tx, piece.joined_into, [piece.id]):
        await _withdraw_message(tx, chat, whole, now=now, zone=zone)
    heard = await routes.list_routed(tx, chat, whole)
    reached = [one for one in heard if one.approval_id is None and (one.is_edit or not is_chat_command(one.text))]
    return DeletionNotice(deletion=await describe_deletion(tx, deletion), recipients=reached)


async def remove_deleted_pieces(tx: Transaction, whole: StoredEvent) -> bool:
    """Removes pieces whose deletion is already accepted from an album that is not routed yet.

    Drops the message if nothing is left of it. Returns whether there were such pieces.
    """
    gone = await album_parts.list_pending_deletions(tx, whole.id)
    if gone and not await _remove_pieces(tx, whole.id, gone):
        await events.mark_dropped(tx, whole.id, DELETED_BY_AUTHOR)
    return bool(gone)


async def _remove_pieces(tx: Transaction, whole: EventId, piece_ids: Sequence[EventId]) -> bool:
    """Returns False if nothing is left of the message; then its content is not changed."""
    await album_parts.mark_deleted(tx, piece_ids)
    left = await album_parts.list_remaining(tx, await events.get(tx, whole))
    if left:
        await events.replace_content(tx, whole, merge_pieces(left))
    return bool(left)


async def describe_deletion(db: Queries, deletion: StoredEvent) -> StoredEvent:
    """Returns the deletion as an agent reads it: for an album piece, it says which part of the message is gone."""
    message = deletion.event.refers_to
    piece = None if message is None else await album_parts.find(db, deletion.chat, message, template=deletion.event)
    if piece is None:
        return deletion
    if await album_parts.list_remaining(db, await events.get(db, piece.joined_into)):
        return _piece_deletion(deletion, piece)
    return replace(deletion, event=replace(deletion.event, refers_to=piece.whole_message_id))


def _piece_deletion(deletion: StoredEvent, piece: AlbumPiece) -> StoredEvent:
    """Returns the deletion of one piece: it refers to the whole message and lists the text and files that are gone."""
    gone = replace(
        deletion.event,
        refers_to=piece.whole_message_id,
        text=piece.event.text,
        attachments=piece.event.attachments,
        parts=(),
    )
    return replace(deletion, event=gone)


async def _withdraw_message(tx: Transaction, chat: ChatKey, message: str, *, now: datetime, zone: tzinfo) -> None:
    asked_for = set[ApprovalId]()
    if (found := await events.find_unsettled(tx, chat, message)) is not None:
        id, approval = found
        await events.mark_dropped(tx, id, DELETED_BY_AUTHOR)
        if approval is not None:
            asked_for.add(approval)
            for one in await events.list_held(tx, approval):
                changed = one.event.refers_to
                if (
                    one.chat == chat
                    and changed is not None
                    and await album_parts.find_whole_id(tx, chat, changed) == message
                ):
                    await events.mark_dropped(tx, one.id, DELETED_BY_AUTHOR)
    for heard in await routes.list_routed(tx, chat, message):
        if heard.approval_id is not None:
            await routes.drop_held(tx, heard.event_id, heard.wiring_id, DELETED_BY_AUTHOR, now=now)
            asked_for.add(heard.approval_id)
    for approval in sorted(asked_for):
        await _close_if_empty(tx, approval, now=now, zone=zone)


async def _close_if_empty(tx: Transaction, id: ApprovalId, *, now: datetime, zone: tzinfo) -> None:
    approval = await approvals.find(tx, id)
    if approval is None or await approvals.count_held_messages(tx, id):
        return
    end = ApprovalResult(
        status=ApprovalStatus.WITHDRAWN, outcome=_("all that was written was deleted."), reason=DELETED_BY_AUTHOR
    )
    if await approvals.close(tx, id, end.status, decided_by=None, choice=None, reason=end.reason, now=now):
        await result.announce_result(tx, approval, end, now=now, zone=zone)
