"""The composition root: builds every stage of the host in order, and nothing else.

Each stage is entered on one exit stack, so stopping is the reverse of starting. Sending works before anything is
received, and receiving stops first.
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

from nanohost.access.telling import tell_owners, tell_slowed
from nanohost.actions.actions import Actions
from nanohost.actions.policy import policy_of
from nanohost.actions.registry import with_files as own_actions
from nanohost.approvals.engine import Approvals
from nanohost.channel_api import Channel
from nanohost.channels.connections import ChannelKey, Connections, Wanted
from nanohost.channels.loader import discover
from nanohost.chat_commands.command import Shop
from nanohost.chat_commands.executor import CommandExecutor
from nanohost.chat_commands.menu import menu
from nanohost.chat_commands.registry import with_files as own_commands
from nanohost.clock import Clock, SystemClock
from nanohost.commands.show import Json
from nanohost.delivery.addresses import tell_addresses
from nanohost.delivery.budget import rates_of
from nanohost.delivery.delivery import Delivery
from nanohost.delivery.settings import DeliverySettings
from nanohost.errors import NanohostError, StoreError
from nanohost.fair_share import FairShare
from nanohost.gateway.budget import call_rates
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.health import Complaint
from nanohost.gateway.model_call import ModelCall
from nanohost.gateway.prices import cost_usd
from nanohost.gateway.settings import CallSettings, ModelSettings
from nanohost.gateway.upstream import DEFAULT_BASE_URL, Upstream
from nanohost.guard.guard import Guard
from nanohost.guard.rule_ends import RuleEnds
from nanohost.guard.settings import GuardSettings
from nanohost.home import Home
from nanohost.intake.inbox import ChannelInbox
from nanohost.keeper.clock_watch import ClockWatch
from nanohost.keeper.disk import DiskReserve
from nanohost.keeper.keeper import Keeper, KeeperSettings
from nanohost.keeper.orders import answer_to
from nanohost.keeper.restart import restart
from nanohost.keeper.settings import ContainerSettings, DiskSettings
from nanohost.keeper.stuck import limits_of
from nanohost.keeper.watchdog import Watchdog
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.news import OutboxNews
from nanohost.mailbox.outbox_reader import OutboxReader
from nanohost.mailbox.settings import NewsSettings
from nanohost.mailbox.writer import MailboxWriter
from nanohost.model import AgentGroupId, Session, SessionId
from nanohost.model_use import is_model_asked
from nanohost.model_watch import ModelWatch
from nanohost.moving import Moving
from nanohost.pausing import Pausing
from nanohost.provider_settings import provider_for
from nanohost.provisioning import Provisioning
from nanohost.reception.codes import Codes
from nanohost.reception.commands import Commands
from nanohost.reception.presses import Presses
from nanohost.reception.reception import Counter, Reception
from nanohost.report import report
from nanohost.routing.attachments import Attachments
from nanohost.routing.router import Router
from nanohost.routing.settings import AttachmentSettings
from nanohost.routing.speaker import Speaker
from nanohost.runtimes.choose import choose_runtime
from nanohost.runtimes.output import keep_short
from nanohost.runtimes.port import Isolation, Runtime
from nanohost.runtimes.settings import DockerSettings, RuntimeSettings
from nanohost.settings import Settings, channel_instances
from nanohost.store import install, model_calls, sessions
from nanohost.store.database import Store, Transaction
from nanohost.store.opened import opened_store as opened_store
from nanohost.store.settings import StoreSettings
from nanohost.store.watch import watch
from nanohost.supervisor import Supervisor
from nanohost.tasks.engine import Tasks
from nanohost.time_settings import TimeSettings
from nanohost.upkeep.settings import UpkeepSettings
from nanohost.upkeep.upkeep import Upkeep

TERMINAL = ("terminal", "default")
"""The one channel that needs no setting up."""
MODEL_WRONG = "No agent can ask its model: {problem}. On the machine that I run on, type: {do}"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a test or an embedding program replaces: the seams of the host. None means the real thing."""

    runtime: Runtime | None = None
    channels: Mapping[ChannelKey, Channel] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What stands before any stage is built."""

    home: Home
    settings: Settings
    clock: Clock
    store: Store
    install: str
    runtime: Runtime
    fair: FairShare = field(default_factory=FairShare)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host and its stages, in the order in which they start."""

    ground: Ground
    mailboxes: Mailboxes
    gateway: Gateway
    model: ModelWatch
    connections: Connections
    moving: Moving
    delivery: Delivery
    news: OutboxNews
    keeper: Keeper
    tasks: Tasks
    actions: Actions
    approvals: Approvals
    watchdog: Watchdog
    disk: DiskReserve
    pausing: Pausing
    router: Router
    supervisor: Supervisor
    receivers: Supervisor

    @property
    def store(self) -> Store:
        return self.ground.store

    @property
    def clock(self) -> Clock:
        return self.ground.clock

    def report(self) -> dict[str, Json]:
        """What `nanohost status` shows of a running host; plain JSON."""
        return report(
            runtime=self.ground.runtime,
            provider=provider_for(self.ground.settings),
            connections=self.connections,
            keeper=self.keeper,
            model=self.gateway.health.standing,
            slowed=self.slowed(),
            disks_short=self.disk.shorts(),
            services=[*self.supervisor.services(), *self.receivers.services()],
            clock=self.clock,
        )

    def slowed(self) -> dict[SessionId, str]:
        """The sessions that write more than they may, and what they have too much of."""
        by_stage = (self.delivery.slowed(), self.keeper.slowed(), self.gateway.slowed())
        words = {id: [over[id] for over in by_stage if id in over] for stage in by_stage for id in stage}
        return {id: "; ".join(over) for id, over in words.items()}

    async def restart(self, session: Session, *, now: bool, message: str | None) -> bool:
        return await restart(self.keeper, self.mailboxes, self.clock, session, now=now, message=message)

    def stop_container(self, session: Session) -> bool:
        return self.keeper.stop(session.id)

    async def addresses_changed(self, agent_group: AgentGroupId) -> None:
        await tell_addresses(self.store, self.mailboxes, agent_group)

    async def deep_link(self, channel: str, instance: str, text: str) -> str | None:
        return await self.connections.deep_link((channel, instance), text)

    async def living_folders(self) -> list[Path]:
        """The folders of sessions whose container may be alive."""
        return [self.mailboxes.layout(session).root for session in await sessions.leased(self.store)]

    async def stopped(self) -> None:
        """Wait until the host cannot go on. Raises StoreError with the reason."""
        failure = await self.supervisor.failed()
        hint = failure.error.hint if isinstance(failure.error, NanohostError) else ""
        raise StoreError(f"{failure.name} failed: {failure.sentence}", hint=hint or "see the log; nanohost run")


@asynccontextmanager
async def running_host(
    home: Home,
    settings: Settings,
    *,
    progress: Callable[[str], None] = lambda _: None,
    keep_containers: bool = True,
    parts: Parts | None = None,
) -> AsyncIterator[Host]:
    """A host that serves while entered. The caller holds the home's lock (home.hold).

    `keep_containers`: leave containers running for the next host, or stop them on leaving. Raises NanohostError.
    """
    parts = parts or Parts()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(own_actions(home.actions))
        await stack.enter_async_context(own_commands(home.chat_commands))
        ground = await _prepare(stack, home, settings, progress, parts)
        host = await _assemble(ground, parts)
        await _start(stack, host, keep_containers=keep_containers)
        yield host


async def _prepare(
    stack: AsyncExitStack, home: Home, settings: Settings, progress: Callable[[str], None], parts: Parts
) -> Ground:
    store = await stack.enter_async_context(opened_store(home, durable=settings.of(StoreSettings).durable))
    async with store.transaction() as tx:
        install_id = await install.ensure(tx, parts.clock.now())
    runtime = parts.runtime or await choose_runtime(
        wanted=settings.of(RuntimeSettings).runtime,
        root=home.root,
        install=install_id,
        base_image=settings.of(DockerSettings).base_image,
        progress=progress,
    )
    return Ground(home=home, settings=settings, clock=parts.clock, store=store, install=install_id, runtime=runtime)


async def _assemble(ground: Ground, parts: Parts) -> Host:
    """Build the stages. Nothing runs yet; once they are opened they hear of each other's work by `store.bus`."""
    store, clock, settings, home = ground.store, ground.clock, ground.settings, ground.home
    mailboxes = Mailboxes(home.sessions, durable=settings.of(StoreSettings).durable, clock=clock, bus=store.bus)
    outbox = OutboxReader(store=store, mailboxes=mailboxes)
    upstream = _upstream(settings)
    gateway = Gateway(
        upstream=upstream,
        record=recorder(store, priced_as=upstream.host),
        clock=clock,
        rates=call_rates(settings.of(CallSettings)),
        on_slowed=partial(_tell_of_slowed, ground),
    )
    connections = Connections(
        catalogue=await asyncio.to_thread(discover, home.channel_folders),
        wanted=_wanted(settings, parts),
        home=home.root,
        runtime_dir=home.run,
        made=parts.channels,
    )
    zone = settings.zone
    moving = Moving(store=store, clock=clock, zone=zone, tell=partial(tell_addresses, store, mailboxes))
    delivery = Delivery(
        store=store,
        mailboxes=mailboxes,
        clock=clock,
        channels=connections,
        move=moving.move,
        ask=settings.of(DeliverySettings).ambiguous == "ask",
        rates=rates_of(settings.of(DeliverySettings)),
        fair=ground.fair,
        outbox=outbox,
    )
    tasks = Tasks(store=store, mailboxes=mailboxes, clock=clock)
    noticed = settings.of(NewsSettings)
    news = OutboxNews(clock, store.bus, interval_s=noticed.poll_interval_s, events=noticed.watch)
    keeper = _keeper(ground, mailboxes, gateway, news, outbox)
    return Host(
        ground=ground,
        mailboxes=mailboxes,
        gateway=gateway,
        model=ModelWatch(
            gateway=gateway,
            clock=clock,
            is_asked=partial(is_model_asked, store, settings, home.root),
            tell=partial(_tell_of_model, ground),
        ),
        connections=connections,
        moving=moving,
        delivery=delivery,
        news=news,
        keeper=keeper,
        watchdog=_watchdog(ground, mailboxes, keeper),
        disk=_disk_reserve(ground, delivery, keeper),
        tasks=tasks,
        actions=_actions(ground, mailboxes),
        approvals=Approvals(store=store, clock=clock, channels=connections, zone=zone),
        pausing=_pausing(ground, mailboxes, delivery, keeper),
        router=_router(ground, mailboxes, connections, keeper),
        supervisor=Supervisor(clock),
        receivers=Supervisor(clock),
    )


def _keeper(ground: Ground, mailboxes: Mailboxes, gateway: Gateway, news: OutboxNews, outbox: OutboxReader) -> Keeper:
    store, clock, settings = ground.store, ground.clock, ground.settings
    containers = settings.of(ContainerSettings)
    services = Provisioning(
        store=store,
        mailboxes=mailboxes,
        gateway=gateway,
        home=ground.home,
        settings=settings,
        isolation=ground.runtime.isolation,
        clock=clock,
    )
    return Keeper(
        store=store,
        mailboxes=mailboxes,
        runtime=ground.runtime,
        news=news,
        services=services,
        clock=clock,
        settings=KeeperSettings(
            max_containers=containers.max_containers,
            idle_timeout_s=containers.idle_timeout_s,
            sweep_interval_s=containers.sweep_interval_s,
            limits=limits_of(containers, settings.of(DiskSettings)),
            groups=ground.home.groups,
        ),
        outbox=outbox,
    )


async def _tell_of_slowed(ground: Ground, id: SessionId, over: str) -> None:
    """Say to the owners that a session asks for too much. Raises StoreError."""
    await tell_slowed(ground.store, await sessions.get(ground.store, id), over, ground.clock.now())


async def _tell_of_model(ground: Ground, complaint: Complaint) -> None:
    """Say it to the owners, once a day and kind: only somebody at the machine can mend it. Raises StoreError."""
    now = ground.clock.now()
    text = MODEL_WRONG.format(problem=complaint.problem, do=complaint.do)
    async with ground.store.transaction() as tx:
        cause = f"model {complaint.trouble} {now:%Y-%m-%d}"
        await tell_owners(tx, text, but=(), cause=cause, now=now)


def _actions(ground: Ground, mailboxes: Mailboxes) -> Actions:
    return Actions(
        store=ground.store,
        mailboxes=mailboxes,
        clock=ground.clock,
        timezone=ground.settings.of(TimeSettings).timezone,
        guard=Guard(policy=policy_of(ground.settings.of(GuardSettings).actions)),
    )


def _watchdog(ground: Ground, mailboxes: Mailboxes, keeper: Keeper) -> Watchdog:
    return Watchdog(
        store=ground.store,
        mailboxes=mailboxes,
        clock=ground.clock,
        containers=keeper,
        session_for=Speaker(ground.store, ground.clock).session_for,
        deadline_s=ground.settings.of(ContainerSettings).answer_deadline_s,
    )


def _disk_reserve(ground: Ground, delivery: Delivery, keeper: Keeper) -> DiskReserve:
    return DiskReserve(
        store=ground.store,
        clock=ground.clock,
        folders=_written(ground),
        reserve=ground.settings.of(DiskSettings).reserve_bytes,
        containers=keeper,
        takes=delivery,
    )


def _written(ground: Ground) -> list[Path]:
    """What is watched for room: all that the host writes, and what all containers do. A single agent's folder may be a
    file system of its own: to fill that is its own affair. Plain processes write the machine's /tmp, too."""
    home = ground.home
    folders = [home.root, home.database.parent, home.sessions, home.groups, home.run]
    return [*folders, Path(tempfile.gettempdir())] if ground.runtime.isolation is Isolation.NONE else folders


def _pausing(ground: Ground, mailboxes: Mailboxes, delivery: Delivery, keeper: Keeper) -> Pausing:
    return Pausing(
        store=ground.store,
        mailboxes=mailboxes,
        clock=ground.clock,
        containers=keeper,
        sends=delivery,
        zone=ground.settings.zone,
    )


def _router(ground: Ground, mailboxes: Mailboxes, connections: Connections, keeper: Keeper) -> Router:
    store, clock, settings = ground.store, ground.clock, ground.settings
    zone = settings.zone
    counters: list[Counter] = [
        Presses(),
        Codes(),
        Commands(channels=connections.names, trouble_of=connections.trouble_of),
    ]
    reception = Reception(store=store, clock=clock, zone=zone, counters=counters)
    shop = Shop(store=store, mailboxes=mailboxes, clock=clock, containers=keeper, zone=zone)
    mailbox = MailboxWriter(mailboxes)
    return Router(
        store=store,
        mailbox=mailbox,
        commands=CommandExecutor(shop, answer_to, mailbox),
        clock=clock,
        attachments=Attachments(
            mailboxes=mailboxes,
            clock=clock,
            channels=connections,
            most_bytes=settings.of(AttachmentSettings).attachment_bytes,
            inside=ground.runtime.isolation is not Isolation.NONE,
        ),
        requests=reception,
        fair=ground.fair,
        zone=zone,
    )


async def _start(stack: AsyncExitStack, host: Host, *, keep_containers: bool) -> None:
    """Start stage after stage; the stack stops them in reverse."""
    await stack.enter_async_context(host.mailboxes.opened())
    await stack.enter_async_context(host.ground.runtime.opened(host.keeper.on_death))
    await stack.enter_async_context(host.gateway.opened())
    await stack.enter_async_context(host.connections.opened())
    await stack.enter_async_context(host.delivery.opened())
    await stack.enter_async_context(host.news.opened())
    await stack.enter_async_context(host.supervisor)
    host.supervisor.start("central store", partial(_watch_store, host.ground), critical=True)
    await stack.enter_async_context(host.pausing.opened())
    await stack.enter_async_context(host.keeper.opened(keep_containers=keep_containers))
    await stack.enter_async_context(host.tasks.opened())
    await stack.enter_async_context(host.actions.opened())
    await stack.enter_async_context(host.approvals.opened())
    host.supervisor.start("model", host.model.run)
    host.supervisor.start("sweep", host.keeper.sweep)
    host.supervisor.start("disk reserve", host.disk.watch)
    host.supervisor.start("watchdog", host.watchdog.watch)
    host.supervisor.start("tasks", host.tasks.run)
    host.supervisor.start("clock", _clock_watch(host).run)
    host.supervisor.start("rules", RuleEnds(store=host.store, clock=host.clock).run)
    host.supervisor.start("upkeep", _upkeep(host).serve)
    host.supervisor.start("outbox poll", host.news.poll)
    host.supervisor.start("outbox retries", partial(host.mailboxes.retry, host.news.changed))
    logs = partial(keep_short, host.living_folders, host.disk.unless_short, host.clock)
    host.supervisor.start("container logs", logs)
    if host.news.has_events:
        host.supervisor.start("outbox events", host.news.listen)
    if host.pausing.known is not None:
        host.pausing.look()
    await stack.enter_async_context(host.router.opened())
    await stack.enter_async_context(host.receivers)
    host.connections.receive(host.receivers, _inboxes(host), clock=host.clock, commands=menu())


def _inboxes(host: Host) -> Callable[[str, str, Channel], ChannelInbox]:
    def make(name: str, instance: str, channel: Channel) -> ChannelInbox:
        return ChannelInbox(
            channel_type=name,
            instance=instance,
            capabilities=channel.capabilities,
            store=host.store,
            clock=host.clock,
            fair=host.ground.fair,
            take_late_failure=host.delivery.failed_later,
            move=host.moving.move,
        )

    return make


def _clock_watch(host: Host) -> ClockWatch:
    return ClockWatch(store=host.store, mailboxes=host.mailboxes, clock=host.clock)


def _upkeep(host: Host) -> Upkeep:
    return Upkeep(
        store=host.store,
        mailboxes=host.mailboxes,
        clock=host.clock,
        keep_days=host.ground.settings.of(UpkeepSettings).keep_days,
    )


async def _watch_store(ground: Ground) -> None:
    await watch(ground.store, ground.home.database, ground.clock, backups=ground.home.backups)


def _wanted(settings: Settings, parts: Parts) -> list[Wanted]:
    found = {(c.name, c.instance): c.settings for c in channel_instances(settings) if c.enabled}
    found.setdefault(TERMINAL, {})
    return [
        Wanted(name=name, instance=instance, settings=table)
        for (name, instance), table in found.items()
        if (name, instance) not in parts.channels
    ]


def _upstream(settings: Settings) -> Upstream:
    model = settings.of(ModelSettings)
    return Upstream(base_url=model.base_url or DEFAULT_BASE_URL, api_key=model.key)


def recorder(store: Store, *, priced_as: str) -> Callable[[Sequence[ModelCall]], Coroutine[object, object, None]]:
    """What keeps calls and what they cost at the host `priced_as`: all of some, or none."""

    async def record(calls: Sequence[ModelCall]) -> None:
        async with store.transaction() as tx:
            for call in calls:
                await _keep(tx, call, priced_as)

    return record


async def _keep(tx: Transaction, call: ModelCall, priced_as: str) -> None:
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
