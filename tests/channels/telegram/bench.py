"""A bot on a simulated Telegram, and a whole host with one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from channels.telegram import TelegramChannel, Timeouts, read_settings
from nanohost.app import running_host
from nanohost.channel_api import EventKind, InboundEvent
from nanohost.clock import Clock, SystemClock
from nanohost.config.home import Home, lock_home
from nanohost.config.settings import Settings
from nanohost.db import agent_groups, messaging_groups, wirings
from nanohost.host import Host, Overrides
from nanohost.model import EngageMode, SessionMode, UnknownSender
from nanohost.runtimes.process import ProcessRuntime
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulators.telegram import TelegramSimulator
from nanohost.testing.time_limits import scaled_timeout
from tests.channels.receiving import run_receive
from tests.support.flow import install_id_for, scripted_settings
from tests.support.template_home import create_home_database

MAX_PAUSE_S = 0.1


def make_fast_timeouts() -> Timeouts:
    """A bot with short pauses and with timeouts as long as a test."""
    return Timeouts(
        answer_timeout_s=scaled_timeout(1.0),
        poll_s=5,
        poll_grace_s=scaled_timeout(1.0),
        min_retry_delay_s=0.01,
        max_retry_delay_s=MAX_PAUSE_S,
        conflict_delay_s=0.1,
        auth_retry_delay_s=0.1,
    )


GROUP = "-1001234"


def make_bot(telegram: TelegramSimulator, patience: Timeouts | None = None) -> TelegramChannel:
    return TelegramChannel(read_settings(telegram.settings()), timeouts=patience or make_fast_timeouts())


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivingBot:
    telegram: TelegramSimulator
    channel: TelegramChannel
    inbox: SuiteInbox

    async def wait_for_event(self, kind: EventKind = EventKind.MESSAGE) -> InboundEvent:
        """The first event of a kind that was accepted, once there is one."""
        await self.inbox.wait_until(lambda: any(event.kind is kind for event in self.inbox.accepted))
        return next(event for event in self.inbox.accepted if event.kind is kind)


@asynccontextmanager
async def run_bot(telegram: TelegramSimulator | None = None) -> AsyncIterator[ReceivingBot]:
    """Telegram, and a bot that receives into an inbox while entered. `receive` must not end by itself."""
    telegram = telegram or TelegramSimulator()
    async with telegram.running(), run_another_bot(telegram) as here:
        yield here


@asynccontextmanager
async def run_another_bot(telegram: TelegramSimulator, inbox: SuiteInbox | None = None) -> AsyncIterator[ReceivingBot]:
    """Another bot, or the restarted bot, on a running Telegram."""
    channel, inbox = make_bot(telegram), inbox or SuiteInbox()
    async with channel.connected(), run_receive(channel, inbox):
        yield ReceivingBot(telegram=telegram, channel=channel, inbox=inbox)


@asynccontextmanager
async def run_host(
    root: Path,
    telegram: TelegramSimulator,
    *chats: str,
    settings: Settings | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Host]:
    """A host in `root` whose scripted agent is wired to these chats; entered again it is the same install."""
    home = Home(root)
    channels = {("telegram", "default"): make_bot(telegram)}
    parts = Overrides(
        runtime=ProcessRuntime(install=install_id_for(root)), channels=channels, clock=clock or SystemClock()
    )
    create_home_database(home)
    with lock_home(home):
        async with running_host(home, settings or scripted_settings(), keep_containers=False, overrides=parts) as host:
            for chat in chats:
                await _wire_chat(host, chat)
            yield host


async def _wire_chat(host: Host, chat: str) -> None:
    group = await agent_groups.find(host.store, "main")
    if await messaging_groups.find(host.store, channel_type="telegram", instance="default", platform_id=chat):
        return
    now = host.clock.now()
    async with host.store.transaction() as tx:
        group = group or await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=now)
        place = await messaging_groups.add(
            tx,
            channel_type="telegram",
            instance="default",
            platform_id=chat,
            is_group=chat.startswith("-"),
            name=chat,
            unknown_sender=UnknownSender.PUBLIC,
            now=now,
        )
        await wirings.add(
            tx,
            messaging_group=place.id,
            agent_group=group.id,
            engage_mode=EngageMode.PATTERN,
            engage_pattern=".",
            session_mode=SessionMode.SHARED,
            priority=0,
            now=now,
        )
