"""The host request handler alone, over a real database: users write messages and get answers."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

from nanohost.channel_api import EventKind, InboundEvent, Sender
from nanohost.commands.context import CommandContext
from nanohost.commands.registry import find_command
from nanohost.config.home import Home
from nanohost.config.settings import Settings
from nanohost.db import agent_groups, audit, events, roles
from nanohost.db.audit import AuditEntry
from nanohost.db.database import Store
from nanohost.db.events import ChatKey
from nanohost.model import HOST_SESSION_ID, Role
from nanohost.routing.code_handler import CodeHandler
from nanohost.routing.host_command_handler import CommandHandler
from nanohost.routing.host_request_handler import HostRequestHandler, RequestHandler
from nanohost.testing.manual_clock import ManualClock
from tests.support.template_home import opened_store

CHANNELS = ("telegram", "slack", "discord")


class AccessTestHost:
    """`clock` stands still until it is moved."""

    def __init__(self, home: Home, store: Store, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        settings = Settings(channels={name: {} for name in CHANNELS})
        self._context = CommandContext(home=home, settings=settings, clock=clock, store=store)
        counters: list[RequestHandler] = [CodeHandler(), CommandHandler(channels=CHANNELS)]
        self._request_handler = HostRequestHandler(store=store, clock=clock, zone=UTC, handlers=counters)
        self._numbers = itertools.count(1)

    async def run_command(self, words: str, **arguments: object) -> Any:
        """The result of an operator command."""
        return await find_command(words).execute(self._context, arguments)

    async def render_command(self, words: str, **arguments: object) -> str:
        """The same as text for a terminal."""
        return find_command(words).render(await self.run_command(words, **arguments))

    async def create_pairing_code(self, channel: str = "telegram") -> str:
        """A pairing code made by the operator command."""
        return str((await self.run_command("pair", channel=channel))["code"])

    async def make_owner(self, user: str) -> None:
        async with self.store.transaction() as tx:
            await roles.grant(tx, user_id=user, role=Role.OWNER, agent_group=None, now=self.clock.now())

    async def make_group(self, folder: str) -> None:
        async with self.store.transaction() as tx:
            await agent_groups.add(tx, folder=folder, name=folder, provider=None, model=None, now=self.clock.now())

    async def receive_message(
        self,
        user: str,
        text: str,
        *,
        group: str = "",
        bot: bool = False,
        mentions: bool = False,
        kind: EventKind = EventKind.MESSAGE,
    ) -> bool:
        """A user writes in their direct chat or in a group. Returns whether the host took the message."""
        channel, _, handle = user.partition(":")
        number = f"{id(self)}-{next(self._numbers)}"
        event = InboundEvent(
            platform_id=group or handle,
            platform_message_id=number,
            sender=Sender(handle=handle, name=handle.title(), is_bot=bot),
            text=text,
            sent_at=self.clock.now(),
            is_group=bool(group),
            mentions_bot=mentions,
            kind=kind,
        )
        chat = ChatKey(channel, "default", event.platform_id)
        async with self.store.transaction() as tx:
            await events.add(tx, chat, event, now=self.clock.now())
        [*_, stored] = await events.list_new(self.store, chat, limit=1000)
        return await self._request_handler.handle(stored)

    async def repeat_last_message(self) -> bool:
        """Handle the last event again, as after a batch that failed. Returns whether the host took it."""
        row = await self.store.fetch_one("SELECT max(id) AS id FROM inbound_events")
        assert row is not None
        return await self._request_handler.handle(await events.get(self.store, row["id"]))

    async def host_messages_to(self, user: str) -> list[str]:
        """The host's messages in a chat (a user's direct chat, or CHANNEL:CHAT)."""
        channel, _, chat = user.partition(":")
        rows = await self.store.fetch_all(
            "SELECT content FROM deliveries WHERE session_id = ? AND channel_type = ? AND platform_id = ? ORDER BY seq",
            (HOST_SESSION_ID, channel, chat),
        )
        return [json.loads(row["content"])["text"] for row in rows]

    async def is_owner(self, user: str) -> bool:
        return Role.OWNER in {grant.role for grant in await roles.list_for_user(self.store, user)}

    async def audit_entries(self, what: str) -> list[AuditEntry]:
        """Newest first."""
        return await audit.latest(self.store.reports, limit=100, action=what)


@asynccontextmanager
async def open_access_host(root: Path, clock: ManualClock | None = None) -> AsyncIterator[AccessTestHost]:
    """Opening the same root again simulates a restart of the same install."""
    home = Home(root)
    async with opened_store(home, durable=False) as store:
        yield AccessTestHost(home, store, clock or ManualClock())
