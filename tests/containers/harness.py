"""A container manager with real files and a real database; its containers are fakes that a test starts and ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nanohost.config.home import Home
from nanohost.containers.manager import ContainerManager, ContainerManagerSettings
from nanohost.containers.settings import DiskSettings
from nanohost.containers.stuck_policy import HealthLimits
from nanohost.db import agent_groups, messaging_groups, sessions
from nanohost.db.database import Store
from nanohost.db.deliveries import DeliveryQueueKey
from nanohost.db.domain_events import OutboxNeedsRead, QueueHasWork
from nanohost.errors import HomeError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.outbox_monitor import OutboxMonitor
from nanohost.model import LeaseId, Session, SessionId, UnknownSender
from nanohost.runtimes.runtime_api import Container, ContainerSpec, DeathListener, Exited, Isolation, Running, RunState
from nanohost.testing.manual_clock import ManualClock
from nanohost_protocol.payloads import ChatIn, encode
from nanohost_protocol.rows import InKind, NewMessageIn, Origin
from tests.support.recorded_events import record_events
from tests.support.template_home import opened_store


class FakeRuntime:
    """Satisfies Runtime: a container lives from `start` until `stop`, or until the test ends it."""

    name = "paper"
    isolation = Isolation.CONTAINER

    def __init__(self) -> None:
        self.started_specs: list[Container] = []
        self.living: list[Container] = []
        self.on_death: DeathListener = lambda _: None

    @asynccontextmanager
    async def opened(self, on_death: DeathListener) -> AsyncIterator[None]:
        self.on_death = on_death
        yield

    async def start(self, spec: ContainerSpec) -> Container:
        container = Container(session_id=spec.session_id, lease=spec.lease, state={})
        self.started_specs.append(container)
        self.living.append(container)
        return container

    async def stop(self, container: Container, *, grace_s: float) -> None:
        if container in self.living:
            self.exit_container(container)

    async def poll(self, container: Container) -> RunState:
        return Running() if container in self.living else Exited()

    async def adopt(self) -> Sequence[Container]:
        return list(self.living)

    def exit_container(self, container: Container) -> None:
        """End the container, and report its exit at once."""
        self.living.remove(container)
        self.on_death(container)


@dataclass(slots=True)
class FakeSessionServices:
    """Satisfies SessionServices; records the sessions that it attached and detached."""

    mailboxes: Mailboxes
    refused_session: SessionId | None = None
    detached_sessions: list[SessionId] = field(default_factory=list)

    async def prepare(self, session: Session, lease: LeaseId) -> ContainerSpec:
        return await self.spec(session, lease)

    async def spec(self, session: Session, lease: LeaseId) -> ContainerSpec:
        root = self.mailboxes.layout(session).root
        return ContainerSpec(session_id=session.id, lease=lease, session_dir=root, agent_dir=root, environment={})

    async def attach(self, session: Session) -> None:
        if session.id == self.refused_session:
            raise HomeError("its folder is gone")

    async def detach(self, session: SessionId) -> None:
        self.detached_sessions.append(session)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerManagerHarness:
    """An open container manager, and everything that it uses."""

    manager: ContainerManager
    store: Store
    mailboxes: Mailboxes
    runtime: FakeRuntime
    services: FakeSessionServices
    clock: ManualClock
    notified_queues: list[DeliveryQueueKey]
    changed_sessions: list[SessionId]
    """Sessions whose outbound.db was reported as changed."""

    async def add_session(self, chat: str) -> Session:
        """A new session with a waiting message."""
        now = self.clock.now()
        async with self.store.transaction() as tx:
            group = await agent_groups.add(tx, folder=chat, name=chat, provider=None, model=None, now=now)
            place = await messaging_groups.add(
                tx,
                channel_type="fake",
                instance="default",
                platform_id=chat,
                is_group=False,
                name=chat,
                unknown_sender=UnknownSender.PUBLIC,
                now=now,
            )
            id = await sessions.add(tx, agent_group=group.id, messaging_group=place.id, thread_id=None, now=now)
            await sessions.make_due(tx, id, at=now, now=now)
        session = await sessions.get(self.store, id)
        await self.mailboxes.put(session, [make_message(chat, self.clock)])
        return session


def make_message(chat: str, clock: ManualClock) -> NewMessageIn:
    return NewMessageIn(
        id=f"m-{chat}",
        kind=InKind.CHAT,
        timestamp=clock.now(),
        content=encode(ChatIn(text="hi", sender="Ann", sender_id="u1")),
        origin=Origin(channel_type="fake", instance="default", platform_id=chat, platform_message_id="p1"),
    )


@asynccontextmanager
async def run_manager(
    root: Path,
    runtime: FakeRuntime,
    *,
    max_containers: int = 8,
    refused_session: SessionId | None = None,
    session_bytes: int = DiskSettings().session_bytes,
    workspace_bytes: int = DiskSettings().workspace_bytes,
) -> AsyncIterator[ContainerManagerHarness]:
    """An open container manager, which leaves its containers running. `refused_session` cannot be attached."""
    clock = ManualClock()
    home = Home(root)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_store(home, durable=False))
        mailboxes = Mailboxes(home.sessions, durable=False, clock=clock, bus=store.bus)
        await stack.enter_async_context(mailboxes.opened())
        services = FakeSessionServices(mailboxes, refused_session)
        notices = record_events(store.bus, QueueHasWork, lambda event: event.queue)
        news = record_events(store.bus, OutboxNeedsRead, lambda event: event.session)
        keeper = ContainerManager(
            store=store,
            mailboxes=mailboxes,
            runtime=runtime,
            outbox_monitor=OutboxMonitor(clock, store.bus, interval_s=1.0, use_events=False),
            services=services,
            clock=clock,
            settings=ContainerManagerSettings(
                max_containers=max_containers,
                idle_timeout_s=600,
                sweep_interval_s=60,
                limits=HealthLimits(
                    heartbeat_timeout_s=30,
                    startup_timeout_s=60,
                    turn_timeout_s=1800,
                    max_session_bytes=session_bytes,
                    max_workspace_bytes=workspace_bytes,
                ),
                groups_dir=home.groups,
            ),
        )
        async with runtime.opened(keeper.on_death), keeper.opened(keep_containers=True):
            yield ContainerManagerHarness(
                manager=keeper,
                store=store,
                mailboxes=mailboxes,
                runtime=runtime,
                services=services,
                clock=clock,
                notified_queues=notices,
                changed_sessions=news,
            )
