"""Carrying a pause out: in time, and also when the disk refuses to have it on record who was at work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

import pytest

from nanohost.home import Home
from nanohost.keeper.keeper import CUT_GRACE_S
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import LeaseId
from nanohost.pausing import LOOK_WITHIN_S, Pausing
from nanohost.store import host_messages, paused, sessions
from nanohost.store.domain_events import LaneHasWork
from nanohost.testing.manual_clock import START, ManualClock
from nanohost_protocol.rows import Origin
from tests.routing.test_router import World
from tests.support.heard import heard
from tests.support.invariants import until
from tests.support.new_home import opened_store

OFFICE = Origin(channel_type="fake", instance="main", platform_id="office")
FULL = "CREATE TRIGGER full BEFORE UPDATE ON paused BEGIN SELECT RAISE(FAIL, 'disk full'); END"


@dataclass(slots=True)
class Keeper:
    """Remembers what it was told."""

    done: list[str] = field(default_factory=list)

    def rest(self) -> None:
        self.done.append("rest")

    def cut(self) -> None:
        self.done.append("cut")

    def go_on(self) -> None:
        self.done.append("go on")


@dataclass(slots=True)
class Sends:
    """Delivery, as far as a pause asks it."""

    async def go_on(self) -> None: ...


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
            await sessions.lease(tx, session.id, LeaseId("l1"), "process")
        yield world


@pytest.mark.behaviour("SE-12")
async def test_a_disk_that_refuses_the_record_keeps_no_turn_from_being_cut(world: World) -> None:
    keeper, clock = Keeper(), ManualClock()
    entered = heard(world.store.bus, LaneHasWork)
    pausing = Pausing(
        store=world.store,
        mailboxes=world.mailboxes,
        clock=clock,
        containers=keeper,
        sends=Sends(),
        zone=UTC,
    )
    async with pausing.opened():
        async with world.store.transaction() as tx:
            await paused.begin(tx, by="fake:boss", at=START, place=OFFICE)
            await tx.run(FULL)
        pausing.look()
        await clock.somebody_sleeps()
        assert "cut" in keeper.done
        async with world.store.transaction() as tx:
            await sessions.release(tx, (await world.session("main")).id, LeaseId("l1"))
            await tx.run("DROP TRIGGER full")
        await clock.advance(60)
        await until(lambda: bool(entered))
    found = await paused.find(world.store)
    assert found is not None
    assert found.cut is not None
    assert [one.agent_group for one in found.cut] == ["main"], "as it was when the pause began"
    assert await host_messages.find(world.store, 1) is not None


@pytest.mark.behaviour("SE-12")
def test_a_turn_is_ended_within_two_seconds_however_deaf_its_runner_is() -> None:
    assert LOOK_WITHIN_S + CUT_GRACE_S < 2, "a look at its file, then so long until SIGKILL"


@pytest.mark.behaviour("SE-12")
async def test_a_resume_is_not_kept_waiting_by_a_disk_that_was_full(world: World) -> None:
    keeper, clock = Keeper(), ManualClock()
    pausing = Pausing(
        store=world.store,
        mailboxes=world.mailboxes,
        clock=clock,
        containers=keeper,
        sends=Sends(),
        zone=UTC,
    )
    async with pausing.opened():
        async with world.store.transaction() as tx:
            await paused.begin(tx, by="fake:boss", at=START, place=OFFICE)
            await tx.run(FULL)
        pausing.look()
        await clock.somebody_sleeps()
        async with world.store.transaction() as tx:
            await paused.end(tx)
        pausing.look()
        await until(lambda: "go on" in keeper.done)
        assert clock.now() == START
