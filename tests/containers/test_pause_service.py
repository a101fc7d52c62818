"""Carrying out a pause: in time, and also when the disk refuses the record of interrupted turns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

import pytest

from nanohost.config.home import Home
from nanohost.containers.manager import INTERRUPT_GRACE_S
from nanohost.containers.pause_service import READ_TIMEOUT_S, PauseService
from nanohost.db import host_messages, paused, sessions
from nanohost.db.domain_events import QueueHasWork
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import LeaseId
from nanohost.testing.manual_clock import START, ManualClock
from nanohost_protocol.rows import Origin
from tests.routing.test_router import World
from tests.support.invariants import wait_until
from tests.support.recorded_events import record_events
from tests.support.template_home import opened_store

OFFICE = Origin(channel_type="fake", instance="main", platform_id="office")
FULL = "CREATE TRIGGER full BEFORE UPDATE ON paused BEGIN SELECT RAISE(FAIL, 'disk full'); END"


@dataclass(slots=True)
class FakeContainers:
    """Records its calls."""

    done: list[str] = field(default_factory=list)

    def pause(self) -> None:
        self.done.append("rest")

    def interrupt(self) -> None:
        self.done.append("cut")

    def resume(self) -> None:
        self.done.append("go on")


@dataclass(slots=True)
class FakeDelivery:
    """Delivery, as far as a pause uses it."""

    async def resume(self) -> None: ...


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    mailboxes = Mailboxes(tmp_path / "sessions", durable=False)
    async with opened_store(Home(tmp_path), durable=False) as store, mailboxes.opened():
        world = World(store, mailboxes)
        await world.wire(await world.chat(), await world.agent("main"))
        await world.says("work")
        await world.route()
        session = await world.session("main")
        async with store.transaction() as tx:
            await sessions.set_lease(tx, session.id, LeaseId("l1"), "process")
        yield world


@pytest.mark.behaviour("SE-12")
async def test_a_disk_that_refuses_the_record_does_not_prevent_turns_from_being_interrupted(world: World) -> None:
    keeper, clock = FakeContainers(), ManualClock()
    entered = record_events(world.store.bus, QueueHasWork)
    pausing = PauseService(
        store=world.store,
        mailboxes=world.mailboxes,
        clock=clock,
        containers=keeper,
        delivery=FakeDelivery(),
        zone=UTC,
    )
    async with pausing.opened():
        async with world.store.transaction() as tx:
            await paused.begin(tx, by="fake:boss", at=START, place=OFFICE)
            await tx.execute(FULL)
        pausing.check()
        await clock.wait_for_sleeper()
        assert "cut" in keeper.done
        async with world.store.transaction() as tx:
            await sessions.release_lease(tx, (await world.session("main")).id, LeaseId("l1"))
            await tx.execute("DROP TRIGGER full")
        await clock.advance(60)
        await wait_until(lambda: bool(entered))
    found = await paused.find(world.store)
    assert found is not None
    assert found.interrupted_turns is not None
    assert [one.agent_group for one in found.interrupted_turns] == ["main"], "as it was when the pause began"
    assert await host_messages.find(world.store, 1) is not None


@pytest.mark.behaviour("SE-12")
def test_an_unresponsive_runner_is_interrupted_within_two_seconds() -> None:
    assert READ_TIMEOUT_S + INTERRUPT_GRACE_S < 2, "a look at its file, then so long until SIGKILL"


@pytest.mark.behaviour("SE-12")
async def test_a_resume_is_not_delayed_by_a_disk_that_was_full(world: World) -> None:
    keeper, clock = FakeContainers(), ManualClock()
    pausing = PauseService(
        store=world.store,
        mailboxes=world.mailboxes,
        clock=clock,
        containers=keeper,
        delivery=FakeDelivery(),
        zone=UTC,
    )
    async with pausing.opened():
        async with world.store.transaction() as tx:
            await paused.begin(tx, by="fake:boss", at=START, place=OFFICE)
            await tx.execute(FULL)
        pausing.check()
        await clock.wait_for_sleeper()
        async with world.store.transaction() as tx:
            await paused.end(tx)
        pausing.check()
        await wait_until(lambda: "go on" in keeper.done)
        assert clock.now() == START
