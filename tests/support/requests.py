"""What an agent asked for, for tests that look at all of it."""

from __future__ import annotations

from nanohost.model import SessionId
from nanohost.store import actions
from nanohost.store.actions import ActionRow
from nanohost.store.database import Store


async def list_requests(store: Store, session: SessionId) -> list[ActionRow]:
    """In order."""
    latest = await actions.latest(store.reports, status=None, session=session, limit=10_000)
    return sorted(latest, key=lambda one: one.seq)
