"""What people wrote while somebody is asked about them: what they hear, and how it ends when they are not let in.

That somebody was asked is said when they were, or are known to be told of it later: not when a message is held for it,
for it may turn out a moment later that nobody can be reached.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime

from nanohost.approvals.kind import Lapsed
from nanohost.channel_api import EventKind
from nanohost.store import dropped, events, host_messages, routes
from nanohost.store.approvals import Approval
from nanohost.store.database import Transaction
from nanohost.store.events import StoredEvent
from nanohost_protocol.ids import derive
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.rows import Origin
from nanohost_protocol.times import to_text

ASKED = "I have asked whether I may talk with you; I will answer when somebody says yes."
NOT_NOW = "Nobody could let you in this time. Write again later if you still want to talk."
NOT_REACHED = (
    "I could reach nobody who may let you in. Write again in an hour or later if you still want to talk; before that I"
    " ask nobody."
)
"""As `requests.AGAIN_AFTER` has it."""
NOBODY_LEFT = "nobody who may decide could be reached"
"""Why an approval failed."""


async def refuse(tx: Transaction, approval: Approval, reason: str, now: datetime, *, agent_group: str = "") -> None:
    """It reaches nobody, on record: the messages of a wired chat and those of one that is not."""
    stored = [await events.get(tx, event) for event, _ in await routes.held(tx, approval.id)]
    await _count(tx, [*stored, *await events.held(tx, approval.id)], reason, now, agent_group)
    await routes.refuse_held(tx, approval.id, reason, now=now)
    await events.drop_held(tx, approval.id, reason)


async def say_asked(tx: Transaction, approval: Approval, now: datetime) -> None:
    """Whoever wrote a direct message hears that somebody is asked: once, however many agents ask because of it, and
    also if they delete it later."""
    waiting = await events.held(tx, approval.id)
    waiting += [await events.get(tx, event) for event, _ in await routes.held(tx, approval.id)]
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
    await host_messages.say(tx, place, ChatOut(text=ASKED), out_id=_asked_id(approval), now=now)


def _asked_id(approval: Approval) -> str:
    """The same for all requests that one message brought about, which were made at one time."""
    origin = approval.origin
    place = () if origin is None else (origin.channel_type, origin.instance, origin.platform_id)
    return derive("h", "asked", approval.requested_by, *place, to_text(approval.created_at))


async def tell_asker(lapsed: Lapsed) -> None:
    """In a direct message the one who wrote hears that it came to nothing. In a group nobody does."""
    origin = lapsed.approval.origin
    if origin is None or json.loads(lapsed.approval.payload).get("is_group", True):
        return
    out_id = derive("h", "lapsed", lapsed.approval.id)
    words = ChatOut(text=NOT_REACHED if lapsed.reason == NOBODY_LEFT else NOT_NOW)
    await host_messages.say(lapsed.tx, origin, words, out_id=out_id, now=lapsed.now)


async def _count(tx: Transaction, stored: Iterable[StoredEvent], reason: str, now: datetime, agent_group: str) -> None:
    for one in stored:
        user = one.user
        await dropped.count(tx, one.chat, user, reason, now=now, agent_group=agent_group)
