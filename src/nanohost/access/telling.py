"""Telling a person something, wherever they can be written to directly."""

from __future__ import annotations

from datetime import datetime

from nanohost.aftermath import Aftermath
from nanohost.store import host_messages, users
from nanohost.store.database import Queries, Transaction
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.rows import Origin


async def tell(
    tx: Transaction, user_id: str, text: str, *, out_id: str, now: datetime, aftermath: Aftermath
) -> Origin | None:
    """Say it in the direct chat where this identity, or another one of the same human, was seen last. None: there is no
    chat that is known."""
    place = await direct_chat(tx, user_id)
    if place is not None:
        delivery = await host_messages.say(tx, place, ChatOut(text=text), out_id=out_id, now=now)
        aftermath.lanes.append(delivery.lane)
    return place


async def direct_chat(db: Queries, user_id: str) -> Origin | None:
    """Where they can be written to: this identity's own chat before the others'."""
    others = [one.user_id for one in await users.identities(db, user_id) if one.user_id != user_id]
    for identity in (user_id, *others):
        if known := await users.dms(db, identity):
            return known[0]
    return None
