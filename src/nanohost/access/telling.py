"""Telling people something, wherever they can be written to directly."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from nanohost.model import Role, Session
from nanohost.store import host_messages, roles, users
from nanohost.store.database import Queries, Store, Transaction
from nanohost_protocol.ids import derive
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.rows import Origin

TERMINAL = "terminal"


async def tell(tx: Transaction, user_id: str, text: str, *, out_id: str, now: datetime) -> Origin | None:
    """Say it in the direct chat where this identity, or another one of the same human, was seen last. None: there is no
    chat that is known."""
    place = await direct_chat(tx, user_id)
    if place is not None:
        await host_messages.say(tx, place, ChatOut(text=text), out_id=out_id, now=now)
    return place


async def tell_owners(tx: Transaction, text: str, *, but: Collection[str], cause: str, now: datetime) -> None:
    """Say it to all owners, once a chat, but not where these users are told of it anyway; in the terminal, where nobody
    may sit for a year, only if no owner can be told elsewhere. `cause`: what it is told because of; the same is told
    once."""
    told = {await direct_chat(tx, user) for user in but}
    owners = [grant.user_id for grant in await roles.deciding(tx) if grant.role is Role.OWNER]
    places = {owner: await direct_chat(tx, owner) for owner in owners}
    is_elsewhere = any(place is not None and place.channel_type != TERMINAL for place in places.values())
    for owner, place in places.items():
        if place not in told and not (is_elsewhere and place is not None and place.channel_type == TERMINAL):
            told.add(place)
            await tell(tx, owner, text, out_id=derive("h", "owner", cause, owner), now=now)


async def tell_slowed(store: Store, session: Session, over: str, now: datetime) -> None:
    """Say it to those who can act, once a session and day. Raises StoreError."""
    text = (
        f"The agent {session.group_folder} writes too much in session {session.id}: {over}. It is slowed down, and "
        f"nothing is lost. To stop it: nanohost sessions hold {session.id}"
    )
    async with store.transaction() as tx:
        await tell_owners(tx, text, but=(), cause=f"budget {session.id} {now:%Y-%m-%d}", now=now)


async def direct_chat(db: Queries, user_id: str) -> Origin | None:
    """Where they can be written to: this identity's own chat before the others'."""
    others = [one.user_id for one in await users.identities(db, user_id) if one.user_id != user_id]
    for identity in (user_id, *others):
        if known := await users.dms(db, identity):
            return known[0]
    return None
