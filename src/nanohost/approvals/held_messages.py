"""Handles messages that wait for an approval: what their senders are told, and how they end if it is denied.

That somebody was asked is said when they were, or are known to be told of it later: not when a message is held for it,
for it may turn out a moment later that nobody can be reached.
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
"""As `requests.RETRY_AFTER` has it."""
NO_APPROVER_REACHED = gettext_noop("nobody who may decide could be reached")
"""Why an approval failed."""


async def reject_held_messages(
    tx: Transaction, approval: Approval, reason: str, now: datetime, *, agent_group: str = ""
) -> None:
    """It reaches nobody, on record: the messages of a wired chat and those of one that is not."""
    stored = [await events.get(tx, event) for event, _wiring in await routes.list_held(tx, approval.id)]
    await _count_dropped(tx, [*stored, *await events.list_held(tx, approval.id)], reason, now, agent_group)
    await routes.deny_held(tx, approval.id, reason, now=now)
    await events.drop_held(tx, approval.id, reason)


async def notify_asked(tx: Transaction, approval: Approval, now: datetime) -> None:
    """Whoever wrote a direct message hears that somebody is asked: once, however many agents ask because of it, and
    also if they delete it later."""
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
    """The same for all requests that one message brought about, which were made at one time."""
    origin = approval.origin
    place = () if origin is None else (origin.channel_type, origin.instance, origin.platform_id)
    return derive_id("h", "asked", approval.requested_by, *place, to_text(approval.created_at))


async def notify_requester(expiry: ExpiryContext) -> None:
    """In a direct message the one who wrote hears that it came to nothing. In a group nobody does."""
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
