"""The composition root: builds every stage of the host and starts the stages in order.

One exit stack holds all stages, so they stop in the reverse order. Sending starts before receiving, and receiving
stops first.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from nanohost.access.notify import notify_owners, notify_throttled
from nanohost.actions.executor import ActionExecutor
from nanohost.actions.policy import parse_policy
from nanohost.actions.registry import extensions_loaded as own_actions
from nanohost.approvals.engine import ApprovalEngine
from nanohost.channel_api import Channel
from nanohost.channels.loader import discover
from nanohost.channels.manager import ChannelKey, ChannelManager, ConfiguredChannel
from nanohost.chat_commands.command import ChatCommandContext
from nanohost.chat_commands.executor import CommandExecutor
from nanohost.chat_commands.menu import build_menu
from nanohost.chat_commands.registry import extensions_loaded as own_commands
from nanohost.chat_mover import ChatMover
from nanohost.clock import Clock, SystemClock
from nanohost.commands.tables import Json
from nanohost.config.home import Home
from nanohost.config.language_settings import LanguageSettings
from nanohost.config.settings import Settings, channel_instances
from nanohost.config.time_settings import TimeSettings
from nanohost.containers.clock_monitor import ClockMonitor
from nanohost.containers.control_messages import command_answer
from nanohost.containers.disk_monitor import DiskMonitor
from nanohost.containers.manager import ContainerManager, ContainerManagerSettings
from nanohost.containers.overdue_monitor import Watchdog
from nanohost.containers.pause_service import PauseService
from nanohost.containers.restart import restart_container
from nanohost.containers.settings import ContainerSettings, DiskSettings
from nanohost.containers.stuck_policy import health_limits
from nanohost.db import install, model_calls, sessions
from nanohost.db.database import Store, Transaction
from nanohost.db.file_monitor import monitor_database
from nanohost.db.open import open_home_store as open_home_store
from nanohost.db.settings import StoreSettings
from nanohost.delivery.address_book import update_destinations
from nanohost.delivery.budget import rate_limits_from_settings
from nanohost.delivery.service import DeliveryService
from nanohost.delivery.settings import DeliverySettings
from nanohost.errors import NanohostError, StoreError
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_call import ModelCall
from nanohost.gateway.model_health import ModelProblem
from nanohost.gateway.model_monitor import ModelMonitor
from nanohost.gateway.model_service import DEFAULT_BASE_URL, Upstream
from nanohost.gateway.prices import cost_usd
from nanohost.gateway.provider_settings import resolve_provider
from nanohost.gateway.providers_in_use import is_model_used
from nanohost.gateway.rate_limit import call_limits_from_settings
from nanohost.gateway.settings import CallSettings, ModelSettings
from nanohost.guard.guard import Guard
from nanohost.guard.rule_expiry import RuleExpirer
from nanohost.guard.settings import GuardSettings
from nanohost.inbox.inbox import ChannelInbox
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.outbox_monitor import OutboxMonitor
from nanohost.mailbox.outbox_reader import OutboxReader
from nanohost.mailbox.settings import OutboxMonitorSettings
from nanohost.mailbox.writer import MailboxWriter
from nanohost.maintenance.retention import Retention
from nanohost.maintenance.settings import RetentionSettings
from nanohost.model import AgentGroupId, Session, SessionId
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
from nanohost.runtimes.container_log import run_log_truncation
from nanohost.runtimes.runtime_api import Isolation, Runtime
from nanohost.runtimes.settings import DockerSettings, RuntimeSettings
from nanohost.scheduler.scheduler import Scheduler
from nanohost.status_report import build_status
from nanohost.text.languages import load_translations
from nanohost.text.translation import _, gettext_noop, installed, translate
from nanohost.work.fair_share import FairShare
from nanohost.work.supervisor import Supervisor

TERMINAL_KEY = ("terminal", "default")
"""The one channel that needs no configuration."""
MODEL_PROBLEM_NOTICE = gettext_noop("No agent can ask its model: {problem}. On the machine that I run on, type: {do}")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """The parts of the host that a test or an embedding program replaces. None means the real one."""

    runtime: Runtime | None = None
    channels: Mapping[ChannelKey, Channel] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What all stages are built on: settings, clock, database, runtime."""

    home: Home
    settings: Settings
    clock: Clock
    store: Store
    install_id: str
    runtime: Runtime
    fair_share: FairShare = field(default_factory=FairShare)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host and its stages, in the order in which they start."""

    foundation: Foundation
    mailboxes: Mailboxes
    gateway: Gateway
    model_monitor: ModelMonitor
    connections: ChannelManager
    chat_mover: ChatMover
    delivery: DeliveryService
    outbox_monitor: OutboxMonitor
    container_manager: ContainerManager
    scheduler: Scheduler
    action_executor: ActionExecutor
    approval_engine: ApprovalEngine
    watchdog: Watchdog
    disk_monitor: DiskMonitor
    pause_service: PauseService
    router: Router
    supervisor: Supervisor
    receiver_supervisor: Supervisor

    @property
    def store(self) -> Store:
        return self.foundation.store

    @property
    def clock(self) -> Clock:
        return self.foundation.clock

    def report(self) -> dict[str, Json]:
        """What `nanohost status` shows of a running host; plain JSON."""
        return build_status(
            runtime=self.foundation.runtime,
            provider=resolve_provider(self.foundation.settings),
            connections=self.connections,
            containers=self.container_manager,
            model=self.gateway.health.status,
            throttled=self.throttled(),
            low_disks=self.disk_monitor.low_disks(),
            services=[*self.supervisor.services(), *self.receiver_supervisor.services()],
            clock=self.clock,
        )

    def throttled(self) -> dict[SessionId, str]:
        """The sessions that exceed a limit, with the reason: which limit."""
        by_stage = (self.delivery.throttled(), self.container_manager.throttled(), self.gateway.throttled())
        reasons = {id: [stage[id] for stage in by_stage if id in stage] for throttled in by_stage for id in throttled}
        return {id: "; ".join(of_session) for id, of_session in reasons.items()}

    async def restart(self, session: Session, *, now: bool, message: str | None) -> bool:
        return await restart_container(
            self.container_manager, self.mailboxes, self.clock, session, now=now, message=message
        )

    def stop_container(self, session: Session) -> bool:
        return self.container_manager.stop(session.id)

    async def addresses_changed(self, agent_group: AgentGroupId) -> None:
        await update_destinations(self.store, self.mailboxes, agent_group)

    async def deep_link(self, channel: str, instance: str, text: str) -> str | None:
        return await self.connections.deep_link((channel, instance), text)

    async def live_session_dirs(self) -> list[Path]:
        """The folders of sessions whose container may be alive."""
        return [self.mailboxes.layout(session).root for session in await sessions.list_leased(self.store)]

    async def wait_until_failed(self) -> None:
        """Wait until the host cannot go on. Raises StoreError with the reason."""
        failure = await self.supervisor.wait_for_failure()
        hint = failure.error.hint if isinstance(failure.error, NanohostError) else ""
        raise StoreError(f"{failure.name} failed: {failure.message}", hint=hint or "see the log; nanohost run")


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
        foundation = await _build_foundation(stack, home, settings, progress, overrides)
        host = await _build_host(foundation, overrides)
        await _start_stages(stack, host, keep_containers=keep_containers)
        yield host


async def _build_foundation(
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


async def _build_host(foundation: Foundation, overrides: Overrides) -> Host:
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
        watchdog=_watchdog(foundation, mailboxes, manager),
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


def _watchdog(foundation: Foundation, mailboxes: Mailboxes, manager: ContainerManager) -> Watchdog:
    return Watchdog(
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
    host.supervisor.start("watchdog", host.watchdog.run)
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


def model_call_recorder(
    store: Store, *, priced_as: str
) -> Callable[[Sequence[ModelCall]], Coroutine[object, object, None]]:
    """Returns a function that records model calls with their cost at the prices of the host `priced_as`.

    It records all the calls it is given in one transaction.
    """

    async def record(calls: Sequence[ModelCall]) -> None:
        async with store.transaction() as tx:
            for call in calls:
                await _record_call(tx, call, priced_as)

    return record


async def _record_call(tx: Transaction, call: ModelCall, priced_as: str) -> None:
    await model_calls.add(
        tx,
        session=call.session_id,
        model=call.model or None,
        started_at=call.started_at,
        duration_ms=call.duration_ms,
        status=call.status,
        tokens_in=call.usage.tokens_in,
        tokens_out=call.usage.tokens_out,
        tokens_cached=call.usage.tokens_cached,
        tokens_cache_written=call.usage.tokens_cache_written,
        tokens_cache_written_1h=call.usage.tokens_cache_written_1h,
        cost_usd=cost_usd(call.model, call.usage, host=priced_as),
        error=call.error or None,
    )
