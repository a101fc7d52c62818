"""The requests of an agent, for tests that read all of them."""

from __future__ import annotations

from nanohost.db import actions
from nanohost.db.actions import ActionRow
from nanohost.db.database import Store
from nanohost.model import SessionId


async def list_requests(store: Store, session: SessionId) -> list[ActionRow]:
    """In order."""
    latest = await actions.latest(store.reports, status=None, session=session, limit=10_000)
    return sorted(latest, key=lambda one: one.seq)
