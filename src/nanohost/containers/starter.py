"""Starts one container with what it needs around it, and clears that away when it is gone.

Promises: the lease is on record before there is a container, what it talks to is open before it can ask, and all of
that can be cleared twice. When to start, and what comes of a start that fails, is up to the container manager.
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
from nanohost.runtimes.port import Container, ContainerSpec, Runtime
from nanohost_protocol.crash_points import crash_point

_log = structlog.get_logger()


class SessionServices(Protocol):
    """What a session's container needs around it while it lives."""

    async def prepare(self, session: Session, lease: LeaseId) -> ContainerSpec:
        """Bring the mailbox up to date and say how to start. Raises NanohostError."""
        ...

    async def spec(self, session: Session, lease: LeaseId) -> ContainerSpec:
        """How to start, as of now; changes nothing. Raises NanohostError."""
        ...

    async def attach(self, session: Session) -> None:
        """Open what the container may talk to. Doing it again changes nothing."""
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
        """Start the slot's container. `on_started` is told as soon as there is one, whatever fails after that. Raises
        SessionHeld if it may have none now, NanohostError."""
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
        """Open what the session's container talks to. Doing it again changes nothing. Raises NanohostError."""
        await self._services.attach(session)
        self._outbox_monitor.watch(session.id, self._mailboxes.layout(session))

    async def release(self, session: SessionId, lease: LeaseId) -> None:
        """Close that again and take the lease off the record."""
        self._outbox_monitor.unwatch(session)
        await self._services.detach(session)
        async with self._store.transaction() as tx:
            await sessions.release_lease(tx, session, lease)
