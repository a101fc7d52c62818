"""What the agent reads of what people send: a simulated Telegram, the real library, inbox, routing and mailboxes; no
agent runs. The clock stands still: an album is complete when the clock is advanced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nanohost.channel_api import EventKind
from nanohost.config.home import Home
from nanohost.db import agent_groups, events, messaging_groups, sessions, wirings
from nanohost.db.database import Store
from nanohost.db.domain_events import SessionHasWork
from nanohost.inbox.inbox import ChannelInbox
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import EngageMode, SessionId, SessionMode, UnknownSender
from nanohost.routing.albums import MAX_ALBUM_WAIT_S
from nanohost.routing.attachments import AttachmentFetcher
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.simulator import ADA
from nanohost.testing.simulators.telegram import TelegramSimulator
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.payloads import ChatIn, decode_in
from nanohost_protocol.rows import MessageIn
from tests.channels.receiving import run_receive
from tests.support.agent_view import render_prompt
from tests.support.routers import make_router
from tests.support.template_home import opened_store

from .bench import GROUP, make_bot

END_TEXT = "the end"


@dataclass(kw_only=True)
class AgentChat:
    """One chat with an agent, which engages when mentioned in a group, and always in a direct chat."""

    telegram: TelegramSimulator
    store: Store
    mailboxes: Mailboxes
    clock: ManualClock
    chat: str
    woken_sessions: list[SessionId] = field(default_factory=list)

    @property
    def is_group(self) -> bool:
        return self.chat != ADA.id

    async def wait_until_read(self) -> None:
        """Wait until every update is confirmed to Telegram and routed."""
        await self.telegram.write("5", END_TEXT)  # a chat without an agent
        await self.telegram.wait_until(lambda: self.telegram.acknowledged()[-1:] == [self.telegram.latest()])
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while any(chat.platform_id == self.chat for chat in await events.list_chats_with_new(self.store)):
                await self.clock.advance(MAX_ALBUM_WAIT_S)

    async def rows(self) -> list[MessageIn]:
        """What is in the agent's mailbox."""
        found: list[MessageIn] = []
        async for session in sessions.iter_all(self.store.reports):
            found += await self.mailboxes.read_inbound(session, lambda box: list(box.due(self.clock.now())))
        return found

    async def messages(self) -> list[ChatIn]:
        """The messages of people in it."""
        payloads = [decode_in(row.kind, row.content) for row in await self.rows()]
        return [one for one in payloads if isinstance(one, ChatIn)]

    async def prompt(self) -> str:
        """What the agent reads."""
        return render_prompt(await self.rows())

    async def dropped(self) -> list[str]:
        rows = await self.store.fetch_all(
            "SELECT reason FROM inbound_events WHERE status = 'dropped' AND platform_id != '5'"
        )
        return [row["reason"] for row in rows]

    async def events(self) -> list[EventKind]:
        rows = await self.store.fetch_all("SELECT event_kind FROM inbound_events WHERE platform_id != '5' ORDER BY id")
        return [EventKind(row["event_kind"]) for row in rows]


@asynccontextmanager
async def open_agent_chat(folder: Path, telegram: TelegramSimulator, chat: str = ADA.id) -> AsyncIterator[AgentChat]:
    """A bot that reads the chat while entered."""
    home, clock = Home(folder), ManualClock()
    mailboxes = Mailboxes(home.sessions, durable=False)
    async with opened_store(home, durable=False) as store, mailboxes.opened(), telegram.running():
        channel = make_bot(telegram)
        here = AgentChat(telegram=telegram, store=store, mailboxes=mailboxes, clock=clock, chat=chat)
        store.bus.subscribe(SessionHasWork, lambda event: here.woken_sessions.append(event.session))
        await _wire(here)
        attachments = AttachmentFetcher(
            mailboxes=mailboxes,
            clock=clock,
            channels={("telegram", "default"): channel},
            max_bytes=10_000,
            is_containerized=False,
        )
        router = make_router(store, mailboxes, clock, attachments=attachments)
        inbox = ChannelInbox(
            channel_type="telegram",
            instance="default",
            capabilities=channel.capabilities,
            store=store,
            clock=clock,
        )
        async with channel.connected(), router.opened(), run_receive(channel, inbox):
            yield here


async def _wire(here: AgentChat) -> None:
    now = here.clock.now()
    async with here.store.transaction() as tx:
        agent = await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=now)
        place = await messaging_groups.add(
            tx,
            channel_type="telegram",
            instance="default",
            platform_id=here.chat,
            is_group=here.is_group,
            name="home",
            unknown_sender=UnknownSender.PUBLIC,
            now=now,
        )
        await wirings.add(
            tx,
            messaging_group=place.id,
            agent_group=agent.id,
            engage_mode=EngageMode.MENTION if here.is_group else EngageMode.PATTERN,
            engage_pattern="" if here.is_group else ".",
            session_mode=SessionMode.SHARED,
            priority=0,
            now=now,
        )


__all__ = ["END_TEXT", "GROUP", "AgentChat", "open_agent_chat"]
