"""Starts the stages of the host in order. They are built in host_builder.py.

One exit stack holds all stages, so they stop in the reverse order. Sending starts before receiving, and receiving
stops first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from nanohost.actions.registry import extensions_loaded as own_actions
from nanohost.channel_api import Channel
from nanohost.chat_commands.menu import build_menu
from nanohost.chat_commands.registry import extensions_loaded as own_commands
from nanohost.config.home import Home
from nanohost.config.language_settings import LanguageSettings
from nanohost.config.settings import Settings
from nanohost.containers.clock_monitor import ClockMonitor
from nanohost.db.file_monitor import monitor_database
from nanohost.guard.rule_expiry import RuleExpirer
from nanohost.host import Foundation, Host, Overrides
from nanohost.host_builder import build_foundation, build_host
from nanohost.inbox.inbox import ChannelInbox
from nanohost.maintenance.retention import Retention
from nanohost.maintenance.settings import RetentionSettings
from nanohost.runtimes.container_log import run_log_truncation
from nanohost.text.languages import load_translations
from nanohost.text.translation import installed


@asynccontextmanager
async def running_host(
    home: Home,
    settings: Settings,
    *,
    progress: Callable[[str], None] = lambda _: None,
    keep_containers: bool = True,
    overrides: Overrides | None = None,
) -> AsyncIterator[Host]:
    """Run a host while the context is entered. The caller holds the home's lock (home.hold).

    `keep_containers`: leave containers running for the next host, or stop them on exit. Raises NanohostError.
    """
    overrides = overrides or Overrides()
    async with AsyncExitStack() as stack:
        language = settings.section(LanguageSettings).language
        stack.enter_context(installed(await asyncio.to_thread(load_translations, language, home.locales)))
        await stack.enter_async_context(own_actions(home.actions))
        await stack.enter_async_context(own_commands(home.chat_commands))
        foundation = await build_foundation(stack, home, settings, progress, overrides)
        host = await build_host(foundation, overrides)
        await _start_stages(stack, host, keep_containers=keep_containers)
        yield host


async def _start_stages(stack: AsyncExitStack, host: Host, *, keep_containers: bool) -> None:
    """Start the stages in order; the stack stops them in reverse."""
    await stack.enter_async_context(host.mailboxes.opened())
    await stack.enter_async_context(host.foundation.runtime.opened(host.container_manager.on_death))
    await stack.enter_async_context(host.gateway.opened())
    await stack.enter_async_context(host.connections.opened())
    await stack.enter_async_context(host.delivery.opened())
    await stack.enter_async_context(host.outbox_monitor.opened())
    await stack.enter_async_context(host.supervisor)
    host.supervisor.start("central store", partial(_watch_store, host.foundation), critical=True)
    await stack.enter_async_context(host.pause_service.opened())
    await stack.enter_async_context(host.container_manager.opened(keep_containers=keep_containers))
    await stack.enter_async_context(host.scheduler.opened())
    await stack.enter_async_context(host.action_executor.opened())
    await stack.enter_async_context(host.approval_engine.opened())
    host.supervisor.start("model", host.model_monitor.run)
    host.supervisor.start("sweep", host.container_manager.sweep)
    host.supervisor.start("disk reserve", host.disk_monitor.run)
    host.supervisor.start("overdue messages", host.overdue_monitor.run)
    host.supervisor.start("tasks", host.scheduler.run)
    host.supervisor.start("clock", _clock_monitor(host).run)
    host.supervisor.start("rules", RuleExpirer(store=host.store, clock=host.clock).run)
    host.supervisor.start("upkeep", _retention(host).run)
    host.supervisor.start("outbox poll", host.outbox_monitor.poll)
    host.supervisor.start("outbox retries", partial(host.mailboxes.run_retries, host.outbox_monitor.notify_changed))
    logs = partial(run_log_truncation, host.live_session_dirs, host.disk_monitor.remove_unless_low, host.clock)
    host.supervisor.start("container logs", logs)
    if host.outbox_monitor.has_events:
        host.supervisor.start("outbox events", host.outbox_monitor.listen)
    if host.pause_service.current is not None:
        host.pause_service.check()
    await stack.enter_async_context(host.router.opened())
    await stack.enter_async_context(host.receiver_supervisor)
    host.connections.start_receiving(
        host.receiver_supervisor, _inbox_factory(host), clock=host.clock, commands=build_menu()
    )


def _inbox_factory(host: Host) -> Callable[[str, str, Channel], ChannelInbox]:
    def make(name: str, instance: str, channel: Channel) -> ChannelInbox:
        return ChannelInbox(
            channel_type=name,
            instance=instance,
            capabilities=channel.capabilities,
            store=host.store,
            clock=host.clock,
            fair_share=host.foundation.fair_share,
            on_late_failure=host.delivery.record_late_failure,
            on_move=host.chat_mover.move,
        )

    return make


def _clock_monitor(host: Host) -> ClockMonitor:
    return ClockMonitor(store=host.store, mailboxes=host.mailboxes, clock=host.clock)


def _retention(host: Host) -> Retention:
    return Retention(
        store=host.store,
        mailboxes=host.mailboxes,
        clock=host.clock,
        keep_days=host.foundation.settings.section(RetentionSettings).keep_days,
    )


async def _watch_store(foundation: Foundation) -> None:
    await monitor_database(
        foundation.store, foundation.home.database, foundation.clock, backups=foundation.home.backups
    )
