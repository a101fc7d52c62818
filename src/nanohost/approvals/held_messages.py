"""Handles messages that wait for an approval: notifies their senders, and drops the messages if it is denied.

Senders are told that somebody was asked only after a card was sent or will certainly be sent, not when the message is
held: a moment later it may turn out that nobody can be reached.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime

from nanohost.approvals.kind import ExpiryContext
from nanohost.channel_api import EventKind
from nanohost.db import dropped, events, host_messages, routes
from nanohost.db.approvals import Approval
from nanohost.db.database import Transaction
from nanohost.db.events import StoredEvent
from nanohost.text.translation import _, gettext_noop
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.rows import Origin
from nanohost_protocol.times import to_text

APPROVAL_REQUESTED_TEXT = gettext_noop("I have asked whether I may talk with you; I will answer when it is approved.")
NOT_APPROVED_TEXT = gettext_noop("Nobody could let you in this time. Write again later if you still want to talk.")
NO_APPROVER_TEXT = gettext_noop(
    "I could reach nobody who may let you in. Write again in an hour or later if you still want to talk; before that I"
    " ask nobody."
)
"""The time in it is that of `requests.RETRY_AFTER`."""
NO_APPROVER_REACHED = gettext_noop("nobody who may decide could be reached")
"""The reason of an approval that failed."""


async def reject_held_messages(
    tx: Transaction, approval: Approval, reason: str, now: datetime, *, agent_group: str = ""
) -> None:
    """Drops the held messages, those of a wired chat and those of an unwired one, and records that."""
    stored = [await events.get(tx, event) for event, _wiring in await routes.list_held(tx, approval.id)]
    await _count_dropped(tx, [*stored, *await events.list_held(tx, approval.id)], reason, now, agent_group)
    await routes.deny_held(tx, approval.id, reason, now=now)
    await events.drop_held(tx, approval.id, reason)


async def notify_asked(tx: Transaction, approval: Approval, now: datetime) -> None:
    """Tells the sender of a direct message that somebody was asked.

    It is sent once, even if several agents need an approval for it or the message is deleted later.
    """
    waiting = await events.list_held(tx, approval.id)
    waiting += [await events.get(tx, event) for event, _wiring in await routes.list_held(tx, approval.id)]
    if not waiting or waiting[0].event.is_group or waiting[0].event.sender.is_bot:
        return
    first, chat = waiting[0].event, waiting[0].chat
    place = Origin(
        channel_type=chat.channel_type,
        instance=chat.instance,
        platform_id=chat.platform_id,
        thread_id=first.thread_id,
        platform_message_id=first.platform_message_id if first.kind is EventKind.MESSAGE else None,
    )
    await host_messages.enqueue(
        tx, place, ChatOut(text=_(APPROVAL_REQUESTED_TEXT)), out_id=_asked_message_id(approval), now=now
    )


def _asked_message_id(approval: Approval) -> str:
    """Returns the id of the notice, the same for all requests that one message caused at one time."""
    origin = approval.origin
    place = () if origin is None else (origin.channel_type, origin.instance, origin.platform_id)
    return derive_id("h", "asked", approval.requested_by, *place, to_text(approval.created_at))


async def notify_requester(expiry: ExpiryContext) -> None:
    """Tells the sender of a direct message that the request ended without a decision. A group gets no message."""
    origin = expiry.approval.origin
    if origin is None or json.loads(expiry.approval.payload).get("is_group", True):
        return
    out_id = derive_id("h", "lapsed", expiry.approval.id)
    words = ChatOut(text=_(NO_APPROVER_TEXT if expiry.reason == NO_APPROVER_REACHED else NOT_APPROVED_TEXT))
    await host_messages.enqueue(expiry.tx, origin, words, out_id=out_id, now=expiry.now)


async def _count_dropped(
    tx: Transaction, stored: Iterable[StoredEvent], reason: str, now: datetime, agent_group: str
) -> None:
    for one in stored:
        user = one.user_id
        await dropped.record(tx, one.chat, user, reason, now=now, agent_group=agent_group)
