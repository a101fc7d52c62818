"""Prepares what a session's container needs: an up-to-date mailbox, its endpoint to the model, its environment.

Never: gives a container a secret. It reaches the model through the gateway's socket, and the gateway adds the key.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial

from nanohost.clock import Clock
from nanohost.config.home import Home
from nanohost.config.settings import Settings
from nanohost.config.time_settings import TimeSettings
from nanohost.containers.settings import ContainerSettings
from nanohost.db import agent_groups
from nanohost.db.database import Store
from nanohost.db.domain_events import RunnerStarting
from nanohost.delivery.address_book import SessionChats, session_chats, to_destinations
from nanohost.delivery.outcome_writer import DeliveryProjection
from nanohost.errors import ExtensionError, SpawnError
from nanohost.extensions.providers import find_provider
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.provider_settings import AgentSettings, resolve_provider
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.settings import OutboxMonitorSettings
from nanohost.model import AgentGroup, LeaseId, Session, SessionId
from nanohost.runtimes.choose import check_installed, check_unsandboxed
from nanohost.runtimes.runtime_api import ContainerSpec, Isolation, resource_limits
from nanohost.runtimes.settings import DockerSettings, RuntimeSettings
from nanohost_protocol import crash_points
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import DeliveryResult

IDLE_EXIT_FACTOR = 2
"""A runner whose host does not come back exits after this many idle timeouts."""


class ProvisioningService:
    """Implements containers.starter.SessionServices."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        gateway: Gateway,
        home: Home,
        settings: Settings,
        isolation: Isolation,
        clock: Clock,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._gateway = gateway
        self._home = home
        self._settings = settings
        self._isolation = isolation
        self._projection = DeliveryProjection(store=store, mailboxes=mailboxes, clock=clock)

    async def prepare(self, session: Session, lease: LeaseId) -> ContainerSpec:
        """Write names, destinations and cursors into the mailbox. Returns how to start the container.

        Raises MailboxError, SpawnError.
        """
        group = await agent_groups.get(self._store, session.agent_group_id)
        spec = await self.spec(session, lease)
        while not await self._write_session_info(session, group):
            pass  # the destinations changed meanwhile, and our write may have replaced newer ones
        self._store.bus.publish(RunnerStarting(session.id))
        if not spec.agent_dir.exists():  # an agent group that was created from a chat has no folder yet
            await asyncio.to_thread(self._home.create_group_folder, group.folder, group.name)
        return spec

    async def spec(self, session: Session, lease: LeaseId) -> ContainerSpec:
        """Returns how to start the container with the current settings; writes nothing. Raises SpawnError."""
        group = await agent_groups.get(self._store, session.agent_group_id)
        provider = group.provider or resolve_provider(self._settings)
        await asyncio.to_thread(self._check_provider, provider)
        return ContainerSpec(
            session_id=session.id,
            lease=lease,
            session_dir=self._mailboxes.layout(session).root,
            agent_dir=self._home.groups / group.folder,
            environment=self._environment(group, provider),
            limits=resource_limits(self._settings.section(DockerSettings)),
            extensions=await asyncio.to_thread(lambda: self._home.runner_extensions),
        )

    def _check_provider(self, name: str) -> None:
        """Check the provider's file, which may have changed since the last start. Raises SpawnError."""
        try:
            provider = find_provider(self._home.root, name)
        except ExtensionError as error:
            raise SpawnError(str(error), hint=error.hint) from error
        tools, runtime = self._settings.section(AgentSettings).tools, self._settings.section(RuntimeSettings)
        check_unsandboxed(self._isolation, provider, tools, runtime.allow_unsandboxed)
        check_installed(self._isolation, provider)

    async def attach(self, session: Session) -> None:
        await self._gateway.attach(session.id, self._mailboxes.layout(session).gateway_socket)

    async def detach(self, session: SessionId) -> None:
        await self._gateway.detach(session)

    async def _write_session_info(self, session: Session, group: AgentGroup) -> bool:
        """Write the session's names, destinations and cursors into its mailbox. Raises MailboxError.

        Returns False if the destinations changed meanwhile.
        """
        chats = await session_chats(self._store, session)
        latest = await self._projection.latest_deliveries(session.id)
        await self._mailboxes.update(session, partial(self._fill_session_info, session, group, chats, latest))
        return await session_chats(self._store, session) == chats

    def _fill_session_info(
        self,
        session: Session,
        group: AgentGroup,
        chats: SessionChats,
        latest: Sequence[DeliveryResult],
        box: InboundWriter,
    ) -> None:
        box.record_delivery_results(latest)
        box.set_destinations(to_destinations(chats), chats.default)
        box.set_meta(
            {
                "agent_name": group.name,
                "timezone": self._settings.section(TimeSettings).timezone,
                "out_cursor": str(session.out_cursor),
                "ack_cursor": str(session.ack_cursor),
            }
        )

    def _environment(self, group: AgentGroup, provider: str) -> dict[str, str]:
        agent = self._settings.section(AgentSettings)
        model = group.model or agent.model
        return {
            "NANOHOST_PROVIDER": provider,
            "NANOHOST_AGENT_TOOLS": agent.tools,
            "NANOHOST_NETWORK": "open" if self._isolation is Isolation.NONE else "none",
            "NANOHOST_TIMEZONE": self._settings.section(TimeSettings).timezone,
            "NANOHOST_POLL_INTERVAL_S": str(self._settings.section(OutboxMonitorSettings).poll_interval_s),
            "NANOHOST_IDLE_EXIT_S": str(self._settings.section(ContainerSettings).idle_timeout_s * IDLE_EXIT_FACTOR),
            **({"NANOHOST_MODEL": model} if model else {}),
            **crash_points.runner_environment(os.environ),
        }
