"""Determines which providers are in use, and whether any of them uses the gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nanohost.config.settings import Settings
from nanohost.db import agent_groups
from nanohost.db.database import Queries
from nanohost.extensions.providers import uses_gateway
from nanohost.gateway.provider_settings import resolve_provider


async def providers_in_use(db: Queries, settings: Settings) -> set[str]:
    """Returns the providers of all agents, and the default one for agents without their own. Raises StoreError."""
    return {
        resolve_provider(settings),
        *(group.provider for group in await agent_groups.list_all(db) if group.provider),
    }


async def is_model_used(db: Queries, settings: Settings, root: Path) -> bool:
    """Returns whether any provider in use needs the gateway. Raises StoreError."""
    names = await providers_in_use(db, settings)
    return await asyncio.to_thread(lambda: any(uses_gateway(root, name) for name in names))
