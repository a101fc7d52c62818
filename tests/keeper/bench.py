"""A keeper with real files and a real store; its containers are on paper, so that a test decides who lives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nanohost.errors import HomeError
from nanohost.home import Home
from nanohost.keeper.keeper import Keeper, KeeperSettings
from nanohost.keeper.settings import DiskSettings
from nanohost.keeper.stuck import Limits
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.news import OutboxNews
from nanohost.model import LeaseId, Session, SessionId, UnknownSender
from nanohost.runtimes.port import Container, ContainerSpec, DeathListener, Exited, Isolation, Running, RunState
from nanohost.store import agent_groups, messaging_groups, sessions
from nanohost.store.database import Store
from nanohost.store.deliveries import LaneKey
from nanohost.store.domain_events import LaneHasWork, OutboxToRead
from nanohost.testing.manual_clock import ManualClock
from nanohost_protocol.payloads import ChatIn, encode
from nanohost_protocol.rows import InKind, NewMessageIn, Origin
from tests.support.heard import heard
from tests.support.new_home import opened_store


class PaperRuntime:
    """Satisfies Runtime: a container lives from `start` until `stop`, or until the test lets it die."""

    name = "paper"
    isolation = Isolation.CONTAINER

    def __init__(self) -> None:
        self.started: list[Container] = []
        self.living: list[Container] = []
        self.on_death: DeathListener = lambda _: None

    @asynccontextmanager
    async def opened(self, on_death: DeathListener) -> AsyncIterator[None]:
        self.on_death = on_death
        yield

    async def start(self, spec: ContainerSpec) -> Container:
        container = Container(session_id=spec.session_id, lease=spec.lease, state={})
        self.started.append(container)
        self.living.append(container)
        return container

    async def stop(self, container: Container, *, grace_s: float) -> None:
        if container in self.living:
            self.die(container)

    async def poll(self, container: Container) -> RunState:
        return Running() if container in self.living else Exited()

    async def adopt(self) -> Sequence[Container]:
        return list(self.living)

    def die(self, container: Container) -> None:
        """It ends, and the news of it comes at once."""
        self.living.remove(container)
        self.on_death(container)


@dataclass(slots=True)
class Services:
    """Satisfies SessionServices; remembers for whom it was asked to close what a container talks to."""

    mailboxes: Mailboxes
    refuses: SessionId | None = None
    detached: list[SessionId] = field(default_factory=list)

    async def prepare(self, session: Session, lease: LeaseId) -> ContainerSpec:
        return await self.spec(session, lease)

    async def spec(self, session: Session, lease: LeaseId) -> ContainerSpec:
        root = self.mailboxes.layout(session).root
        return ContainerSpec(session_id=session.id, lease=lease, session_dir=root, agent_dir=root, environment={})

    async def attach(self, session: Session) -> None:
        if session.id == self.refuses:
            raise HomeError("its folder is gone")

    async def detach(self, session: SessionId) -> None:
        self.detached.append(session)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A keeper that is open, and all that it works with."""

    keeper: Keeper
    store: Store
    mailboxes: Mailboxes
    runtime: PaperRuntime
    services: Services
    clock: ManualClock
    notices: list[LaneKey]
    news: list[SessionId]
    """Whose outbound.db delivery was told to look at."""

    async def session(self, chat: str) -> Session:
        """A session of its own, with a message that waits."""
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
        await self.mailboxes.put(session, [message(chat, self.clock)])
        return session


def message(chat: str, clock: ManualClock) -> NewMessageIn:
    return NewMessageIn(
        id=f"m-{chat}",
        kind=InKind.CHAT,
        timestamp=clock.now(),
        content=encode(ChatIn(text="hi", sender="Ann", sender_id="u1")),
        origin=Origin(channel_type="fake", instance="default", platform_id=chat, platform_message_id="p1"),
    )


@asynccontextmanager
async def keeping(
    root: Path,
    runtime: PaperRuntime,
    *,
    max_containers: int = 8,
    refuses: SessionId | None = None,
    session_bytes: int = DiskSettings().session_bytes,
    workspace_bytes: int = DiskSettings().workspace_bytes,
) -> AsyncIterator[Bench]:
    """A keeper while entered. Its containers are left alive. `refuses`: whose containers cannot be attached."""
    clock = ManualClock()
    home = Home(root)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_store(home, durable=False))
        mailboxes = Mailboxes(home.sessions, durable=False, clock=clock, bus=store.bus)
        await stack.enter_async_context(mailboxes.opened())
        services = Services(mailboxes, refuses)
        notices = heard(store.bus, LaneHasWork, lambda event: event.lane)
        news = heard(store.bus, OutboxToRead, lambda event: event.session)
        keeper = Keeper(
            store=store,
            mailboxes=mailboxes,
            runtime=runtime,
            news=OutboxNews(clock, store.bus, interval_s=1.0, events=False),
            services=services,
            clock=clock,
            settings=KeeperSettings(
                max_containers=max_containers,
                idle_timeout_s=600,
                sweep_interval_s=60,
                limits=Limits(
                    heartbeat_s=30,
                    first_s=60,
                    turn_s=1800,
                    session_bytes=session_bytes,
                    workspace_bytes=workspace_bytes,
                ),
                groups=home.groups,
            ),
        )
        async with runtime.opened(keeper.on_death), keeper.opened(keep_containers=True):
            yield Bench(
                keeper=keeper,
                store=store,
                mailboxes=mailboxes,
                runtime=runtime,
                services=services,
                clock=clock,
                notices=notices,
                news=news,
            )
