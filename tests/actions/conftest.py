"""A session whose agent makes requests, and the executor that carries them out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from nanohost.actions.executor import ActionExecutor
from nanohost.db import actions, agent_groups, messaging_groups, sessions
from nanohost.db.actions import ActionRow
from nanohost.db.database import Store, open_store
from nanohost.db.domain_events import ApprovalChanged, RequestsWaiting, SessionHasWork, TasksChanged
from nanohost.guard.guard import Guard
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import ApprovalId, MessagingGroupId, Session, SessionId, UnknownSender
from nanohost.testing.manual_clock import START, ManualClock
from nanohost_protocol.inbound import inbound_snapshot
from nanohost_protocol.payloads import SystemIn, decode_in
from nanohost_protocol.rows import MessageIn, Origin
from tests.support.requests import list_requests
from tests.support.template_home import make_database

HERE = Origin(channel_type="fake", instance="default", platform_id="c1")


@dataclass(kw_only=True)
class ActionsHarness:
    """`woken_sessions`, `changed_sessions`, `notified_approvals`, `requesting_sessions` record the emitted events."""

    store: Store
    mailboxes: Mailboxes
    clock: ManualClock
    session: Session
    other: Session
    woken_sessions: list[SessionId] = field(default_factory=list)
    changed_sessions: list[SessionId] = field(default_factory=list)
    notified_approvals: list[ApprovalId] = field(default_factory=list)
    requesting_sessions: list[SessionId] = field(default_factory=list)
    request_count: int = 0

    def __post_init__(self) -> None:
        bus = self.store.bus
        bus.subscribe(SessionHasWork, lambda event: self.woken_sessions.append(event.session))
        bus.subscribe(TasksChanged, lambda event: self.changed_sessions.append(event.session))
        bus.subscribe(ApprovalChanged, lambda event: self.notified_approvals.append(event.approval))
        bus.subscribe(RequestsWaiting, lambda event: self.requesting_sessions.append(event.session))

    async def request_action(self, name: str, arguments: str, *, session: Session | None = None) -> str:
        """Record a request of the agent as the collector does; returns the id of the outbound row."""
        self.request_count += 1
        session = session or self.session
        row = ActionRow(
            session_id=session.id,
            seq=2 * self.request_count - 1,
            out_id=f"o{self.request_count}",
            name=name,
            arguments=arguments,
            origin=HERE,
            requested_at=self.clock.now(),
            created_at=self.clock.now(),
        )
        async with self.store.transaction() as tx:
            await actions.add(tx, row)
        return row.out_id

    async def enter(self, row: ActionRow) -> None:
        async with self.store.transaction() as tx:
            await actions.add(tx, replace(row, session_id=self.session.id))

    async def run_all(self, guard: Guard | None = None) -> None:
        """Carry out every request, as a host that starts and stops."""
        async with self.make_executor(guard).opened():
            pass  # closing waits for running work

    def make_executor(self, guard: Guard | None = None) -> ActionExecutor:
        """The executor as the host builds it."""
        return ActionExecutor(
            store=self.store,
            mailboxes=self.mailboxes,
            clock=self.clock,
            timezone="Europe/Berlin",
            guard=guard or Guard(),
        )

    async def statuses(self) -> list[str]:
        return [str(row.status) for row in await list_requests(self.store, self.session.id)]

    def notices(self) -> list[MessageIn]:
        """What the agent was told, in order."""
        path = self.mailboxes.layout(self.session).inbound_db
        if not path.exists():
            return []
        with inbound_snapshot(path) as box:
            return list(box.due(self.clock.now()))

    def agent_messages(self) -> list[str]:
        payloads = [decode_in(row.kind, row.content) for row in self.notices()]
        return [payload.text for payload in payloads if isinstance(payload, SystemIn)]


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ActionsHarness]:
    database = tmp_path / "nanohost.db"
    make_database(database)
    mailboxes = Mailboxes(tmp_path / "sessions", durable=False)
    async with open_store(database, durable=False) as store, mailboxes.opened():
        yield ActionsHarness(
            store=store,
            mailboxes=mailboxes,
            clock=ManualClock(),
            session=await _session(store, "main", chat=await _chat(store)),
            other=await _session(store, "other", chat=None),
        )


async def _chat(store: Store) -> MessagingGroupId:
    async with store.transaction() as tx:
        made = await messaging_groups.add(
            tx,
            channel_type=HERE.channel_type,
            instance=HERE.instance,
            platform_id=HERE.platform_id,
            is_group=False,
            name="c1",
            unknown_sender=UnknownSender.PUBLIC,
            now=START,
        )
    return made.id


async def _session(store: Store, folder: str, *, chat: MessagingGroupId | None) -> Session:
    async with store.transaction() as tx:
        group = await agent_groups.add(tx, folder=folder, name=folder, provider=None, model=None, now=START)
        id = await sessions.add(tx, agent_group=group.id, messaging_group=chat, thread_id=None, now=START)
        return await sessions.get(tx, id)
