"""Getting to know people: who they are on their platform, and where each can be written to directly."""

from __future__ import annotations

from datetime import datetime, timedelta

from nanohost.store import users
from nanohost.store.database import Queries, Transaction
from nanohost.store.events import StoredEvent
from nanohost_protocol.rows import Origin

SEEN_EVERY = timedelta(days=1)
"""How fine it is kept when somebody was last seen: it is no write for each message."""


async def is_news(db: Queries, stored: StoredEvent, now: datetime) -> bool:
    """Whether `meet` would change anything."""
    sender = stored.event.sender
    direct = None if stored.event.is_group else _direct(stored)
    user_id = stored.user
    return not await users.is_known(db, user_id, name=sender.name, direct=direct, since=now - SEEN_EVERY)


async def meet(tx: Transaction, stored: StoredEvent, now: datetime) -> None:
    """Remember the event's sender, and their direct chat if it came from there."""
    user_id = stored.user
    await users.seen(tx, user_id, name=stored.event.sender.name, now=now)
    if not stored.event.is_group:
        await users.learn_dm(tx, user_id, _direct(stored), now)


def _direct(stored: StoredEvent) -> Origin:
    """A DM is one conversation whatever its threads, and is written to as a whole."""
    chat = stored.chat
    return Origin(channel_type=chat.channel_type, instance=chat.instance, platform_id=chat.platform_id)
