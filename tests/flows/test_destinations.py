"""An agent sends to a chat outside its session exactly as long as an operator allows it."""

from __future__ import annotations

import asyncio

import pytest

from nanohost.commands.context import CommandContext
from nanohost.commands.registry import find_command
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import RunningHost

FAMILY = {"group": "main", "name": "family"}
TOLD = [
    {"match": "tell", "actions": [{"text": '<message to="family">dinner</message>'}, {"answer": "told"}]},
    {"match": "late", "actions": [{"until_file": "go"}, {"text": '<message to="family">late</message>'}]},
]


async def create(flow: RunningHost) -> None:
    await flow.run_command("destinations create", "main", "family", channel="fake", chat="c2")


async def reasons(flow: RunningHost, count: int) -> list[str]:
    """The reasons why the host dropped the agent's messages."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            rows = await flow.host.store.fetch_all(
                "SELECT reason FROM deliveries WHERE status = 'dropped' ORDER BY seq"
            )
            if len(rows) >= count:
                return [row["reason"] for row in rows]
            await asyncio.sleep(0.02)


@pytest.mark.behaviour("DL-01")
async def test_a_running_agent_can_use_a_destination_as_soon_as_it_is_created(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await flow.wire("c1", script=TOLD)
        await host_env.fake.person_writes("tell them")
        await host_env.fake.wait_for_sent(1)
        assert flow.texts("c2") == []
        [container] = await flow.containers()
        await create(flow)
        await host_env.fake.person_writes("tell them")
        await host_env.fake.wait_for_sent(3)
        assert [one.lease for one in await flow.containers()] == [container.lease], "it needed no fresh start"
        assert flow.texts("c2") == ["dinner"]
    assert flow.texts("c1") == ["told", "told"]


@pytest.mark.behaviour("DL-01")
async def test_a_destination_deleted_during_a_turn_gets_no_further_messages(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire("c1", script=TOLD)
        await create(flow)
        await host_env_with_events.fake.person_writes("tell them")
        await host_env_with_events.fake.wait_for_sent(2)
        await host_env_with_events.fake.person_writes("late")
        host = flow.host
        unheard = CommandContext(
            home=flow.home, settings=host.foundation.settings, clock=host.clock, store=host.store, host=None
        )
        await find_command("destinations delete").execute(unheard, FAMILY)  # the agent does not know it, and tries
        (flow.home.groups / "main" / "go").touch()
        [reason] = await reasons(flow, 1)
    assert reason.startswith("there is no destination 'family'")
    assert flow.texts("c2") == ["dinner"]


@pytest.mark.behaviour("DL-01")
async def test_an_agent_is_told_that_a_destination_was_deleted(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire("c1", script=TOLD)
        await create(flow)
        await host_env_with_events.fake.person_writes("tell them")
        await host_env_with_events.fake.wait_for_sent(2)
        await flow.run_command("destinations delete", "main", "family")
        session = await flow.session()
        told = await flow.host.mailboxes.read_inbound(
            session, lambda box: (box.destinations(), box.default_destination())
        )
        assert ([one.name for one in told[0]], told[1]) == (["c1"], "c1")
        await host_env_with_events.fake.person_writes("tell them")
        await host_env_with_events.fake.wait_for_sent(3)
    assert flow.texts("c2") == ["dinner"]


@pytest.mark.behaviour("DL-01")
async def test_a_destination_belongs_to_one_agent_group(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire("c1", script=TOLD)
        await flow.ensure_group("work")
        await flow.run_command("destinations create", "work", "family", channel="fake", chat="c2")
        await host_env_with_events.fake.person_writes("tell them")
        await host_env_with_events.fake.wait_for_sent(1)
    assert flow.texts("c2") == []


async def test_a_group_with_the_name_of_a_destination_gets_none_of_its_messages(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire("family", script=TOLD)
        await create(flow)
        await host_env_with_events.fake.person_writes("tell them", chat="family")
        await host_env_with_events.fake.wait_for_sent(2)
    assert flow.texts("family") == ["told"]
    assert flow.texts("c2") == ["dinner"]


LATER = [
    {
        "match": "later",
        "actions": [
            {"tool": "send_message", "arguments": {"text": "later", "to": "family", "at": "in 1 hour"}},
            {"tool": "send_message", "arguments": {"text": "daily", "to": "family", "cron": "0 9 * * *"}},
            {"answer": "noted"},
        ],
    }
]


async def wait_for_recurring(flow: RunningHost) -> None:
    """Wait until the host has recorded the recurring message, and so everything before it."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while not await flow.run_command("tasks list"):  # noqa: ASYNC110 - the database announces nothing
            await asyncio.sleep(0.02)


@pytest.mark.behaviour("DL-01")
async def test_a_scheduled_message_to_a_deleted_destination_is_never_sent(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire("c1", script=LATER)
        await create(flow)
        await host_env_with_events.fake.person_writes("later")
        await host_env_with_events.fake.wait_for_sent(1)
        await wait_for_recurring(flow)
        gone = await flow.run_command("destinations delete", "main", "family")
        assert (gone["messages"], gone["tasks"]) == (1, 1)
        assert await flow.run_command("tasks list") == []
        [waited] = await flow.run_command("deliveries list", status="dropped")
        assert waited["reason"] == "the destination family was taken away"
        await create(flow)  # under the same name again: it is another permission
        assert (await flow.run_command("destinations delete", "main", "family"))["messages"] == 0
    assert flow.texts("c2") == []


@pytest.mark.behaviour("DL-01")
async def test_a_send_in_progress_to_a_deleted_destination_is_not_retried(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire("c1", script=TOLD)
        await create(flow)
        host_env_with_events.fake.hold()
        await host_env_with_events.fake.person_writes("tell them")
        await host_env_with_events.fake.wait_for_attempts(2)
        assert (await flow.run_command("destinations delete", "main", "family"))["messages"] == 0
        host_env_with_events.fake.limited_chats["c2"] = 0.5
        host_env_with_events.fake.release()
        assert await reasons(flow, 1) == ["the destination family was taken away"]
        host_env_with_events.fake.limited_chats.clear()
    assert (flow.texts("c1"), flow.texts("c2")) == (["told"], [])


async def test_a_scheduled_message_survives_if_its_chat_has_another_destination_name(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire("c1", script=LATER)
        await create(flow)
        await flow.run_command("destinations create", "main", "smiths", channel="fake", chat="c2")
        await host_env_with_events.fake.person_writes("later")
        await host_env_with_events.fake.wait_for_sent(1)
        await wait_for_recurring(flow)
        gone = await flow.run_command("destinations delete", "main", "family")
        assert (gone["messages"], gone["tasks"]) == (0, 0)
        gone = await flow.run_command("destinations delete", "main", "smiths")
        assert (gone["messages"], gone["tasks"]) == (1, 1)
