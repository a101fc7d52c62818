"""Starts a container with the services it needs, and releases them when it is gone.

Promises: the lease is recorded before the container starts, its sockets are open before it runs, and a release can be
repeated. The container manager decides when to start, and what to do after a failed start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from nanohost.containers.adoption import persisted_state
from nanohost.containers.hold_service import SessionHeld
from nanohost.containers.pool import Slot
from nanohost.db import holds, sessions
from nanohost.db.database import Store
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.outbox_monitor import OutboxMonitor
from nanohost.model import LeaseId, Session, SessionId
from nanohost.runtimes.runtime_api import Container, ContainerSpec, Runtime
from nanohost_protocol.crash_points import crash_point

_log = structlog.get_logger()


class SessionServices(Protocol):
    """Prepares and serves a session's container while it lives."""

    async def prepare(self, session: Session, lease: LeaseId) -> ContainerSpec:
        """Bring the mailbox up to date. Returns how to start the container. Raises NanohostError."""
        ...

    async def spec(self, session: Session, lease: LeaseId) -> ContainerSpec:
        """Returns how to start the container with the current settings; changes nothing. Raises NanohostError."""
        ...

    async def attach(self, session: Session) -> None:
        """Open the sockets that the container may use. A repeat changes nothing."""
        ...

    async def detach(self, session: SessionId) -> None: ...


class Starter:
    """One per container manager."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        runtime: Runtime,
        outbox_monitor: OutboxMonitor,
        services: SessionServices,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._runtime = runtime
        self._outbox_monitor = outbox_monitor
        self._services = services

    async def start(self, slot: Slot, on_started: Callable[[Slot, Container], None]) -> None:
        """Start the slot's container. Calls `on_started` as soon as it runs, whatever fails after that. Raises
        SessionHeld if the session is on hold, NanohostError."""
        session = await sessions.get(self._store, slot.session_id)
        async with self._store.transaction() as tx:
            if (hold := await holds.find(tx, session.id)) is not None:
                raise SessionHeld(f"session {session.id} is held: {hold.reason}")
            await sessions.set_lease(tx, session.id, slot.lease, self._runtime.name)
        crash_point("containers.leased")
        await self._mailboxes.restore_empty_parts(session)
        spec = await self._services.prepare(session, slot.lease)
        await self.attach(session)
        container = await self._runtime.start(spec)
        crash_point("containers.started")
        on_started(slot, container)
        async with self._store.transaction() as tx:
            await sessions.set_runtime_state(
                tx, session.id, slot.lease, persisted_state(container, spec, self._runtime)
            )
        _log.info("container_started", session=session.id, group=session.group_folder, lease=slot.lease)

    async def attach(self, session: Session) -> None:
        """Open the session's sockets and watch its outbox. A repeat changes nothing. Raises NanohostError."""
        await self._services.attach(session)
        self._outbox_monitor.watch(session.id, self._mailboxes.layout(session))

    async def release(self, session: SessionId, lease: LeaseId) -> None:
        """Undo `attach` and delete the session's lease."""
        self._outbox_monitor.unwatch(session)
        await self._services.detach(session)
        async with self._store.transaction() as tx:
            await sessions.release_lease(tx, session, lease)
