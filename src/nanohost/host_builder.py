"""Builds the foundation and every stage of a host. Nothing runs yet."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from nanohost.access.notify import notify_owners, notify_throttled
from nanohost.actions.executor import ActionExecutor
from nanohost.actions.policy import parse_policy
from nanohost.approvals.engine import ApprovalEngine
from nanohost.channels.loader import discover
from nanohost.channels.manager import ChannelManager, ConfiguredChannel
from nanohost.chat_commands.command import ChatCommandContext
from nanohost.chat_commands.executor import CommandExecutor
from nanohost.chat_mover import ChatMover
from nanohost.config.home import Home
from nanohost.config.settings import Settings, channel_instances
from nanohost.config.time_settings import TimeSettings
from nanohost.containers.control_messages import command_answer
from nanohost.containers.disk_monitor import DiskMonitor
from nanohost.containers.manager import ContainerManager, ContainerManagerSettings
from nanohost.containers.overdue_monitor import OverdueMonitor
from nanohost.containers.pause_service import PauseService
from nanohost.containers.settings import ContainerSettings, DiskSettings
from nanohost.containers.stuck_policy import health_limits
from nanohost.db import install, sessions
from nanohost.db.open import open_home_store
from nanohost.db.settings import StoreSettings
from nanohost.delivery.address_book import update_destinations
from nanohost.delivery.budget import rate_limits_from_settings
from nanohost.delivery.service import DeliveryService
from nanohost.delivery.settings import DeliverySettings
from nanohost.gateway.call_recorder import model_call_recorder
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_health import ModelProblem
from nanohost.gateway.model_monitor import ModelMonitor
from nanohost.gateway.model_service import DEFAULT_BASE_URL, Upstream
from nanohost.gateway.providers_in_use import is_model_used
from nanohost.gateway.rate_limit import call_limits_from_settings
from nanohost.gateway.settings import CallSettings, ModelSettings
from nanohost.guard.guard import Guard
from nanohost.guard.settings import GuardSettings
from nanohost.host import Foundation, Host, Overrides
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.outbox_monitor import OutboxMonitor
from nanohost.mailbox.outbox_reader import OutboxReader
from nanohost.mailbox.settings import OutboxMonitorSettings
from nanohost.mailbox.writer import MailboxWriter
from nanohost.model import SessionId
from nanohost.provisioning import ProvisioningService
from nanohost.routing.attachments import AttachmentFetcher
from nanohost.routing.button_handler import ButtonHandler
from nanohost.routing.code_handler import CodeHandler
from nanohost.routing.host_command_handler import CommandHandler
from nanohost.routing.host_request_handler import HostRequestHandler, RequestHandler
from nanohost.routing.router import Router
from nanohost.routing.session_resolver import SessionResolver
from nanohost.routing.settings import AttachmentSettings
from nanohost.runtimes.choose import choose_runtime
from nanohost.runtimes.runtime_api import Isolation
from nanohost.runtimes.settings import DockerSettings, RuntimeSettings
from nanohost.scheduler.scheduler import Scheduler
from nanohost.text.translation import _, gettext_noop, translate
from nanohost.work.supervisor import Supervisor

TERMINAL_KEY = ("terminal", "default")
"""The one channel that needs no configuration."""
MODEL_PROBLEM_NOTICE = gettext_noop("No agent can ask its model: {problem}. On the machine that I run on, type: {do}")


async def build_foundation(
    stack: AsyncExitStack, home: Home, settings: Settings, progress: Callable[[str], None], overrides: Overrides
) -> Foundation:
    store = await stack.enter_async_context(open_home_store(home, durable=settings.section(StoreSettings).durable))
    async with store.transaction() as tx:
        install_id = await install.get_or_create(tx, overrides.clock.now())
    runtime = overrides.runtime or await choose_runtime(
        requested=settings.section(RuntimeSettings).runtime,
        root=home.root,
        install=install_id,
        base_image=settings.section(DockerSettings).base_image,
        progress=progress,
    )
    return Foundation(
        home=home, settings=settings, clock=overrides.clock, store=store, install_id=install_id, runtime=runtime
    )


async def build_host(foundation: Foundation, overrides: Overrides) -> Host:
    """Build the stages. Nothing runs yet. Once opened, the stages notify each other through `store.bus`."""
    store, clock, settings, home = foundation.store, foundation.clock, foundation.settings, foundation.home
    mailboxes = Mailboxes(home.sessions, durable=settings.section(StoreSettings).durable, clock=clock, bus=store.bus)
    outbox = OutboxReader(store=store, mailboxes=mailboxes)
    upstream = _upstream(settings)
    gateway = Gateway(
        upstream=upstream,
        record=model_call_recorder(store, priced_as=upstream.host),
        clock=clock,
        call_limits=call_limits_from_settings(settings.section(CallSettings)),
        on_throttled=partial(_notify_throttled, foundation),
    )
    connections = ChannelManager(
        catalogue=await asyncio.to_thread(discover, home.channel_folders),
        configured=_wanted_channels(settings, overrides),
        home=home.root,
        runtime_dir=home.run_dir,
        preloaded=overrides.channels,
    )
    zone = settings.zone
    chat_mover = ChatMover(
        store=store, clock=clock, zone=zone, notify_agents=partial(update_destinations, store, mailboxes)
    )
    delivery = DeliveryService(
        store=store,
        mailboxes=mailboxes,
        clock=clock,
        channels=connections,
        on_chat_moved=chat_mover.move,
        hold_ambiguous=settings.section(DeliverySettings).ambiguous == "ask",
        rate_limits=rate_limits_from_settings(settings.section(DeliverySettings)),
        fair_share=foundation.fair_share,
        outbox=outbox,
    )
    scheduler = Scheduler(store=store, mailboxes=mailboxes, clock=clock)
    monitoring = settings.section(OutboxMonitorSettings)
    outbox_monitor = OutboxMonitor(clock, store.bus, interval_s=monitoring.poll_interval_s, use_events=monitoring.watch)
    manager = _container_manager(foundation, mailboxes, gateway, outbox_monitor, outbox)
    return Host(
        foundation=foundation,
        mailboxes=mailboxes,
        gateway=gateway,
        model_monitor=ModelMonitor(
            gateway=gateway,
            clock=clock,
            is_model_used=partial(is_model_used, store, settings, home.root),
            notify_owners=partial(_notify_model_problem, foundation),
        ),
        connections=connections,
        chat_mover=chat_mover,
        delivery=delivery,
        outbox_monitor=outbox_monitor,
        container_manager=manager,
        overdue_monitor=_overdue_monitor(foundation, mailboxes, manager),
        disk_monitor=_disk_monitor(foundation, delivery, manager),
        scheduler=scheduler,
        action_executor=_action_executor(foundation, mailboxes),
        approval_engine=ApprovalEngine(store=store, clock=clock, channels=connections, zone=zone),
        pause_service=_pause_service(foundation, mailboxes, delivery, manager),
        router=_router(foundation, mailboxes, connections, manager),
        supervisor=Supervisor(clock),
        receiver_supervisor=Supervisor(clock),
    )


def _container_manager(
    foundation: Foundation, mailboxes: Mailboxes, gateway: Gateway, outbox_monitor: OutboxMonitor, outbox: OutboxReader
) -> ContainerManager:
    store, clock, settings = foundation.store, foundation.clock, foundation.settings
    containers = settings.section(ContainerSettings)
    provisioning = ProvisioningService(
        store=store,
        mailboxes=mailboxes,
        gateway=gateway,
        home=foundation.home,
        settings=settings,
        isolation=foundation.runtime.isolation,
        clock=clock,
    )
    return ContainerManager(
        store=store,
        mailboxes=mailboxes,
        runtime=foundation.runtime,
        outbox_monitor=outbox_monitor,
        services=provisioning,
        clock=clock,
        settings=ContainerManagerSettings(
            max_containers=containers.max_containers,
            idle_timeout_s=containers.idle_timeout_s,
            sweep_interval_s=containers.sweep_interval_s,
            limits=health_limits(containers, settings.section(DiskSettings)),
            groups_dir=foundation.home.groups,
        ),
        outbox=outbox,
    )


async def _notify_throttled(foundation: Foundation, id: SessionId, reason: str) -> None:
    """Tell the owners that a session exceeds a limit. Raises StoreError."""
    await notify_throttled(foundation.store, await sessions.get(foundation.store, id), reason, foundation.clock.now())


async def _notify_model_problem(foundation: Foundation, problem: ModelProblem) -> None:
    """Tell the owners, once a day for each kind of problem: only the operator can fix it. Raises StoreError."""
    now = foundation.clock.now()
    text = _(MODEL_PROBLEM_NOTICE, problem=translate(problem.message), do=translate(problem.hint))
    async with foundation.store.transaction() as tx:
        cause = f"model {problem.kind} {now:%Y-%m-%d}"
        await notify_owners(tx, text, exclude=(), cause=cause, now=now)


def _action_executor(foundation: Foundation, mailboxes: Mailboxes) -> ActionExecutor:
    return ActionExecutor(
        store=foundation.store,
        mailboxes=mailboxes,
        clock=foundation.clock,
        timezone=foundation.settings.section(TimeSettings).timezone,
        guard=Guard(policy=parse_policy(foundation.settings.section(GuardSettings).actions)),
    )


def _overdue_monitor(foundation: Foundation, mailboxes: Mailboxes, manager: ContainerManager) -> OverdueMonitor:
    return OverdueMonitor(
        store=foundation.store,
        mailboxes=mailboxes,
        clock=foundation.clock,
        containers=manager,
        session_for=SessionResolver(foundation.store, foundation.clock).find_or_create_session,
        deadline_s=foundation.settings.section(ContainerSettings).answer_deadline_s,
    )


def _disk_monitor(foundation: Foundation, delivery: DeliveryService, manager: ContainerManager) -> DiskMonitor:
    return DiskMonitor(
        store=foundation.store,
        clock=foundation.clock,
        folders=_watched_dirs(foundation),
        reserve=foundation.settings.section(DiskSettings).reserve_bytes,
        containers=manager,
        collection=delivery,
    )


def _watched_dirs(foundation: Foundation) -> list[Path]:
    """The folders whose free disk space is monitored: those that the host and its containers write.

    A single agent's folder may be a file system of its own; if the agent fills it, only the agent is affected. Plain
    processes also write the machine's /tmp.
    """
    home = foundation.home
    folders = [home.root, home.database.parent, home.sessions, home.groups, home.run_dir]
    return [*folders, Path(tempfile.gettempdir())] if foundation.runtime.isolation is Isolation.NONE else folders


def _pause_service(
    foundation: Foundation, mailboxes: Mailboxes, delivery: DeliveryService, manager: ContainerManager
) -> PauseService:
    return PauseService(
        store=foundation.store,
        mailboxes=mailboxes,
        clock=foundation.clock,
        containers=manager,
        delivery=delivery,
        zone=foundation.settings.zone,
    )


def _router(
    foundation: Foundation, mailboxes: Mailboxes, connections: ChannelManager, manager: ContainerManager
) -> Router:
    store, clock, settings = foundation.store, foundation.clock, foundation.settings
    zone = settings.zone
    request_handlers: list[RequestHandler] = [
        ButtonHandler(),
        CodeHandler(),
        CommandHandler(channels=connections.configured_names, channel_problem=connections.disconnect_reason),
    ]
    host_requests = HostRequestHandler(store=store, clock=clock, zone=zone, handlers=request_handlers)
    context = ChatCommandContext(store=store, mailboxes=mailboxes, clock=clock, containers=manager, zone=zone)
    mailbox = MailboxWriter(mailboxes)
    return Router(
        store=store,
        mailbox=mailbox,
        commands=CommandExecutor(context, command_answer, mailbox),
        clock=clock,
        attachments=AttachmentFetcher(
            mailboxes=mailboxes,
            clock=clock,
            channels=connections,
            max_bytes=settings.section(AttachmentSettings).attachment_bytes,
            is_containerized=foundation.runtime.isolation is not Isolation.NONE,
        ),
        host_request_handler=host_requests,
        fair_share=foundation.fair_share,
        zone=zone,
    )


def _wanted_channels(settings: Settings, overrides: Overrides) -> list[ConfiguredChannel]:
    found = {(c.name, c.instance): c.settings for c in channel_instances(settings) if c.is_enabled}
    found.setdefault(TERMINAL_KEY, {})
    return [
        ConfiguredChannel(name=name, instance=instance, settings=table)
        for (name, instance), table in found.items()
        if (name, instance) not in overrides.channels
    ]


def _upstream(settings: Settings) -> Upstream:
    model = settings.section(ModelSettings)
    return Upstream(base_url=model.base_url or DEFAULT_BASE_URL, api_key=model.key)
