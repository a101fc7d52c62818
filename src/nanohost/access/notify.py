"""Sends messages of the host to people in their direct chats."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from nanohost.db import host_messages, roles, users
from nanohost.db.database import Queries, Store, Transaction
from nanohost.model import Role, Session
from nanohost.text.translation import _, translate
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.rows import Origin

TERMINAL_CHANNEL = "terminal"


async def notify(tx: Transaction, user_id: str, text: str, *, out_id: str, now: datetime) -> Origin | None:
    """Sends a message to the direct chat where this person was last seen, under any identity.

    Returns the chat; None if no direct chat is known.
    """
    place = await find_direct_chat(tx, user_id)
    if place is not None:
        await host_messages.enqueue(tx, place, ChatOut(text=text), out_id=out_id, now=now)
    return place


async def notify_owners(tx: Transaction, text: str, *, exclude: Collection[str], cause: str, now: datetime) -> None:
    """Sends a message to all owners, once per chat, but not to the chats of the users in `exclude`.

    Sends it to the terminal, which may be unused for a year, only if no owner can be reached elsewhere. `cause`: the
    reason of the message; it is sent once per cause.
    """
    notified = {await find_direct_chat(tx, user) for user in exclude}
    owners = [grant.user_id for grant in await roles.list_deciders(tx) if grant.role is Role.OWNER]
    places = {owner: await find_direct_chat(tx, owner) for owner in owners}
    is_elsewhere = any(place is not None and place.channel_type != TERMINAL_CHANNEL for place in places.values())
    for owner, place in places.items():
        if place not in notified and not (
            is_elsewhere and place is not None and place.channel_type == TERMINAL_CHANNEL
        ):
            notified.add(place)
            await notify(tx, owner, text, out_id=derive_id("h", "owner", cause, owner), now=now)


async def notify_throttled(store: Store, session: Session, limit_text: str, now: datetime) -> None:
    """Tells owners that a session is throttled, once per session and day. Raises StoreError."""
    text = _(
        "The agent {agent} writes too much in session {session}: {limit}. It is slowed down, and nothing is lost."
        " To stop it: nanohost sessions hold {session}",
        agent=session.group_folder,
        session=session.id,
        limit=translate(limit_text),
    )
    async with store.transaction() as tx:
        await notify_owners(tx, text, exclude=(), cause=f"budget {session.id} {now:%Y-%m-%d}", now=now)


async def find_direct_chat(db: Queries, user_id: str) -> Origin | None:
    """Returns the person's direct chat: of this identity, else of another one; None if none is known."""
    others = [one.user_id for one in await users.list_identities(db, user_id) if one.user_id != user_id]
    for identity in (user_id, *others):
        if known := await users.list_dms(db, identity):
            return known[0]
    return None
