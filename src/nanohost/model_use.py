"""Whether the model is asked at all: what is wrong with it is news only then."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nanohost.provider_settings import resolve_provider
from nanohost.providers import uses_gateway
from nanohost.settings import Settings
from nanohost.store import agent_groups
from nanohost.store.database import Queries


async def providers_in_use(db: Queries, settings: Settings) -> set[str]:
    """Of all agents, and the one of those that name none. Raises StoreError."""
    return {
        resolve_provider(settings),
        *(group.provider for group in await agent_groups.list_all(db) if group.provider),
    }


async def is_model_used(db: Queries, settings: Settings, root: Path) -> bool:
    """Whether the gateway is for any provider in use. Raises StoreError."""
    names = await providers_in_use(db, settings)
    return await asyncio.to_thread(lambda: any(uses_gateway(root, name) for name in names))
