"""Containers that are replaced: by command, and because their settings are outdated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from nanohost.errors import UsageError
from nanohost.mailbox import queries
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.rows import Turn
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import RunningHost, Script
from tests.support.invariants import wait_for_claims, wait_until

SLOW: Script = [{"match": "slow", "actions": [{"until_file": "go"}, {"answer": "done with {text}"}]}]
ONCE: Script = [
    {"match": "long", "attempt": 1, "actions": [{"hang": True}]},
    {"match": "long", "actions": [{"answer": "done with {text}"}]},
]


async def lease(flow: RunningHost) -> str | None:
    return (await flow.session()).lease


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while not await true():  # noqa: ASYNC110 - processes announce nothing
            await asyncio.sleep(0.02)


async def replaced(flow: RunningHost, before: str | None) -> None:
    """Wait until another container runs."""

    async def fresh() -> bool:
        return await lease(flow) not in (None, before) and len(await flow.containers()) == 1

    await eventually(fresh)


async def turns(flow: RunningHost) -> list[Turn]:
    """Newest first."""
    return await flow.host.mailboxes.read_outbound(await flow.session(), queries.turns()) or []


@pytest.mark.behaviour("SE-14")
async def test_restart_lets_the_turn_end_and_starts_a_fresh_container(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await flow.wire(script=SLOW)
        await host_env.fake.person_writes("slow")
        await wait_for_claims(flow)
        before = await lease(flow)
        assert await flow.run_command("agents restart", folder="main")
        flow.resume_script()
        await host_env.fake.wait_for_sent(1)
        await replaced(flow, before)
        assert [turn.attempt for turn in await turns(flow)] == [1]
    assert flow.texts() == ["done with slow"]


@pytest.mark.behaviour("SE-14")
async def test_an_immediate_restart_repeats_the_turn_without_counting_an_attempt(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ONCE)
        await host_env_with_events.fake.person_writes("long")
        await wait_for_claims(flow)
        before = await lease(flow)
        await flow.run_command("agents restart", folder="main", now=True)
        await host_env_with_events.fake.wait_for_sent(1)
        await replaced(flow, before)

        async def forgotten() -> bool:  # with the turn's acks, which come after its answer
            return not await flow.host.store.fetch_all("SELECT * FROM uncounted_attempts")

        await eventually(forgotten)
    assert flow.texts() == ["done with long"]


@pytest.mark.behaviour("SE-14", "SE-13")
async def test_a_restart_message_is_read_by_the_fresh_container_only(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await flow.wire(script=SLOW)
        await host_env.fake.person_writes("slow")
        await wait_for_claims(flow)
        before = await lease(flow)
        await flow.run_command("agents restart", folder="main", message="you have a new tool")
        flow.resume_script()
        await host_env.fake.wait_for_sent(1)
        await replaced(flow, before)

        async def told() -> bool:
            return len(await turns(flow)) == 2 and (await turns(flow))[0].ended_at is not None

        await eventually(told)
        newest, oldest = await turns(flow)
        assert len(newest.message_ids) == len(oldest.message_ids) == 1


@pytest.mark.behaviour("SE-14")
async def test_restart_of_a_group_without_containers_starts_none(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        assert await flow.run_command("agents restart", folder="main", message="hello") == {
            "group": "main",
            "restarted": [],
        }
        assert await flow.containers() == []


@pytest.mark.behaviour("SE-14")
async def test_a_session_stopped_by_command_continues_with_the_next_message(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("one")
        await host_env_with_events.fake.wait_for_sent(1)
        session = await flow.session()
        await flow.run_command("sessions stop", id=session.id)
        await wait_until(lambda: not flow.host.container_manager.containers())
        with pytest.raises(UsageError, match="no container that runs"):
            await flow.run_command("sessions stop", id=session.id)
        assert await flow.run_command("sessions stop", id="all") == []
        await host_env_with_events.fake.person_writes("two")
        await host_env_with_events.fake.wait_for_sent(2)
        assert session.id in str(await flow.run_command("sessions stop", id="all"))
        await wait_until(lambda: not flow.host.container_manager.containers())


@pytest.mark.behaviour("SE-03")
async def test_an_adopted_outdated_container_finishes_its_turn_and_its_successor_has_the_new_settings(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host(should_verify_clean=False, keep_containers=True) as flow:
        await flow.wire(script=SLOW)
        await host_env_with_events.fake.person_writes("slow")
        await wait_for_claims(flow)
        [before] = await flow.containers()
    async with host_env_with_events.run_host(
        {"timezone": "Europe/Berlin"}, runtime=(runtime := host_env_with_events.make_runtime())
    ) as flow:
        flow.resume_script()
        await host_env_with_events.fake.wait_for_sent(1)
        await wait_until(lambda: not flow.host.container_manager.containers())
        assert before not in await flow.containers()
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(2)
    assert runtime.started[0].environment["NANOHOST_TIMEZONE"] == "Europe/Berlin"
    assert flow.texts() == ["done with slow", "echo: hi"]


@pytest.mark.behaviour("SE-14")
async def test_a_session_folder_gets_lost_empty_folders_and_its_fifo_again(host_env: HostTestEnv) -> None:
    """As after restoring a backup that keeps files only."""
    async with host_env.run_host() as flow:
        await flow.wire(script=[{"match": "", "actions": [{"answer": "heard {text}"}]}])
        await host_env.fake.person_writes("before")
        await host_env.fake.wait_for_sent(1)
        root = flow.layout(await flow.session()).root
    await asyncio.to_thread(keep_only_files, root)
    async with host_env.run_host() as flow:
        await host_env.fake.person_writes("after")
        await host_env.fake.wait_for_sent(2)
        assert flow.texts() == ["heard before", "heard after"]


def keep_only_files(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir():
            with suppress(OSError):  # it is not empty
                path.rmdir()
        elif not path.is_file():
            path.unlink()
