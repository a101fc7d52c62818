"""Containers that are replaced: by command, and because they were started with other settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from nanohost.errors import UsageError
from nanohost.mailbox import queries
from nanohost.testing.limits import HANG_S, seconds
from nanohost_protocol.rows import Turn
from tests.flows.stage import Stage
from tests.support.flow import Flow, Script
from tests.support.invariants import claimed, until

SLOW: Script = [{"match": "slow", "actions": [{"until_file": "go"}, {"answer": "done with {text}"}]}]
ONCE: Script = [
    {"match": "long", "attempt": 1, "actions": [{"hang": True}]},
    {"match": "long", "actions": [{"answer": "done with {text}"}]},
]


async def lease(flow: Flow) -> str | None:
    return (await flow.session()).lease


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(seconds(HANG_S)):
        while not await true():  # noqa: ASYNC110 - processes announce nothing
            await asyncio.sleep(0.02)


async def replaced(flow: Flow, before: str | None) -> None:
    """Wait until a fresh container runs in the place of that one."""

    async def fresh() -> bool:
        return await lease(flow) not in (None, before) and len(await flow.containers()) == 1

    await eventually(fresh)


async def turns(flow: Flow) -> list[Turn]:
    """Newest first."""
    return await flow.host.mailboxes.outbound(await flow.session(), queries.turns()) or []


@pytest.mark.behaviour("SE-14")
async def test_restart_lets_the_turn_end_and_starts_a_fresh_container(stage: Stage) -> None:
    async with stage.host() as flow:
        await flow.wire(script=SLOW)
        await stage.fake.person_writes("slow")
        await claimed(flow)
        before = await lease(flow)
        assert await flow.types("groups restart", folder="main")
        flow.goes_on()
        await stage.fake.wait_for(1)
        await replaced(flow, before)
        assert [turn.attempt for turn in await turns(flow)] == [1]
    assert flow.texts() == ["done with slow"]


@pytest.mark.behaviour("SE-14")
async def test_restart_now_runs_the_turn_again_without_a_lost_try(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire(script=ONCE)
        await watched.fake.person_writes("long")
        await claimed(flow)
        before = await lease(flow)
        await flow.types("groups restart", folder="main", now=True)
        await watched.fake.wait_for(1)
        await replaced(flow, before)
        assert await flow.host.store.all("SELECT * FROM spared_tries") == []
    assert flow.texts() == ["done with long"]


@pytest.mark.behaviour("SE-14", "SE-13")
async def test_restart_with_a_message_tells_the_fresh_container_and_only_that(stage: Stage) -> None:
    async with stage.host() as flow:
        await flow.wire(script=SLOW)
        await stage.fake.person_writes("slow")
        await claimed(flow)
        before = await lease(flow)
        await flow.types("groups restart", folder="main", message="you have a new tool")
        flow.goes_on()
        await stage.fake.wait_for(1)
        await replaced(flow, before)

        async def told() -> bool:
            return len(await turns(flow)) == 2 and (await turns(flow))[0].ended_at is not None

        await eventually(told)
        newest, oldest = await turns(flow)
        assert len(newest.message_ids) == len(oldest.message_ids) == 1


@pytest.mark.behaviour("SE-14")
async def test_restart_of_a_group_without_containers_starts_none(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire()
        assert await flow.types("groups restart", folder="main", message="hello") == {"group": "main", "restarted": []}
        assert await flow.containers() == []


@pytest.mark.behaviour("SE-14")
async def test_a_session_is_stopped_by_command_and_goes_on_with_the_next_message(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire()
        await watched.fake.person_writes("one")
        await watched.fake.wait_for(1)
        session = await flow.session()
        await flow.types("sessions stop", id=session.id)
        await until(lambda: not flow.host.keeper.containers())
        with pytest.raises(UsageError, match="no container that runs"):
            await flow.types("sessions stop", id=session.id)
        assert await flow.types("sessions stop", id="all") == []
        await watched.fake.person_writes("two")
        await watched.fake.wait_for(2)
        assert session.id in str(await flow.types("sessions stop", id="all"))
        await until(lambda: not flow.host.keeper.containers())


@pytest.mark.behaviour("SE-03")
async def test_an_adopted_container_of_other_settings_ends_its_turn_and_the_next_has_the_new_ones(
    watched: Stage,
) -> None:
    async with watched.host(clean=False, keep_containers=True) as flow:
        await flow.wire(script=SLOW)
        await watched.fake.person_writes("slow")
        await claimed(flow)
        [before] = await flow.containers()
    async with watched.host({"timezone": "Europe/Berlin"}, runtime=(runtime := watched.runtime())) as flow:
        flow.goes_on()
        await watched.fake.wait_for(1)
        await until(lambda: not flow.host.keeper.containers())
        assert before not in await flow.containers()
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for(2)
    assert runtime.started[0].environment["NANOHOST_TIMEZONE"] == "Europe/Berlin"
    assert flow.texts() == ["done with slow", "echo: hi"]
