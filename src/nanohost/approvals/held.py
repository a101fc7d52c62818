"""What people wrote while somebody was asked about them: how it ends when they are not let in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime

from nanohost.approvals.kind import Lapsed
from nanohost.store import dropped, events, host_messages, routes
from nanohost.store.approvals import Approval
from nanohost.store.database import Transaction
from nanohost.store.events import StoredEvent
from nanohost_protocol.ids import derive
from nanohost_protocol.payloads import ChatOut

NOT_NOW = "Nobody could let you in this time. Write again later if you still want to talk."


async def refuse(tx: Transaction, approval: Approval, reason: str, now: datetime, *, agent_group: str = "") -> None:
    """It reaches nobody, on record: the messages of a wired chat and those of one that is not."""
    stored = [await events.get(tx, event) for event, _ in await routes.held(tx, approval.id)]
    await _count(tx, [*stored, *await events.held(tx, approval.id)], reason, now, agent_group)
    await routes.refuse_held(tx, approval.id, reason, now=now)
    await events.drop_held(tx, approval.id, reason)


async def tell_asker(lapsed: Lapsed) -> None:
    """In a direct message the one who wrote hears that it came to nothing. In a group nobody does."""
    origin = lapsed.approval.origin
    if origin is None or json.loads(lapsed.approval.payload).get("is_group", True):
        return
    out_id = derive("h", "lapsed", lapsed.approval.id)
    delivery = await host_messages.say(lapsed.tx, origin, ChatOut(text=NOT_NOW), out_id=out_id, now=lapsed.now)
    lapsed.aftermath.lanes.append(delivery.lane)


async def _count(tx: Transaction, stored: Iterable[StoredEvent], reason: str, now: datetime, agent_group: str) -> None:
    for one in stored:
        user = one.user
        await dropped.count(tx, one.chat, user, reason, now=now, agent_group=agent_group)
