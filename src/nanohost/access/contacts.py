"""Records who people are on their platform, and the direct chat in which each can be reached."""

from __future__ import annotations

from datetime import datetime, timedelta

from nanohost.db import users
from nanohost.db.database import Transaction
from nanohost.db.events import StoredEvent
from nanohost_protocol.rows import Origin

LAST_SEEN_RESOLUTION = timedelta(days=1)
"""How precisely the time of the last message is stored, so that not every message causes a write."""


def is_contact_outdated(stored: StoredEvent, now: datetime) -> bool:
    """Returns whether `record_contact` would change anything, as far as it was known when the event was read. Pure."""
    return stored.contact_seen_at is None or stored.contact_seen_at <= now - LAST_SEEN_RESOLUTION


async def record_contact(tx: Transaction, stored: StoredEvent, now: datetime) -> None:
    """Records the event's sender, and their direct chat if the event came from there."""
    user_id = stored.user_id
    await users.record_seen(tx, user_id, name=stored.event.sender.name, now=now)
    if not stored.event.is_group:
        await users.save_dm(tx, user_id, _direct_chat(stored), now)


def _direct_chat(stored: StoredEvent) -> Origin:
    """Returns the address of the direct chat, without a thread: messages to it go to the chat as a whole."""
    chat = stored.chat
    return Origin(channel_type=chat.channel_type, instance=chat.instance, platform_id=chat.platform_id)
