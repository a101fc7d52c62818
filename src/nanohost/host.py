"""The running host: what all stages are built on, the stages, and what commands ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nanohost.actions.executor import ActionExecutor
from nanohost.approvals.engine import ApprovalEngine
from nanohost.channel_api import Channel
from nanohost.channels.manager import ChannelKey, ChannelManager
from nanohost.chat_mover import ChatMover
from nanohost.clock import Clock, SystemClock
from nanohost.commands.tables import Json
from nanohost.config.home import Home
from nanohost.config.settings import Settings
from nanohost.containers.disk_monitor import DiskMonitor
from nanohost.containers.manager import ContainerManager
from nanohost.containers.overdue_monitor import OverdueMonitor
from nanohost.containers.pause_service import PauseService
from nanohost.containers.restart import restart_container
from nanohost.db import sessions
from nanohost.db.database import Store
from nanohost.delivery.address_book import update_destinations
from nanohost.delivery.service import DeliveryService
from nanohost.errors import NanohostError, StoreError
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_monitor import ModelMonitor
from nanohost.gateway.provider_settings import resolve_provider
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.outbox_monitor import OutboxMonitor
from nanohost.model import AgentGroupId, Session, SessionId
from nanohost.routing.router import Router
from nanohost.runtimes.runtime_api import Runtime
from nanohost.scheduler.scheduler import Scheduler
from nanohost.status_report import build_status
from nanohost.work.fair_share import FairShare
from nanohost.work.supervisor import Supervisor


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
    overdue_monitor: OverdueMonitor
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
