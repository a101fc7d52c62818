"""Tasks in a running host: the agent runs them, the chat reads the answer, the operator sees the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from nanohost.db.open import open_home_store
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.times import to_text
from tests.flows.host_fixture import HostTestEnv
from tests.flows.test_turns import failing_script
from tests.support.flow import RunningHost

COSTS = [{"match": "cost", "actions": [{"answer": "done: {text}"}, {"usage": {"tokens_in": 7, "cost_usd": 0.5}}]}]


async def wait_for_task(flow: RunningHost, task: str, fits: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
    """The task as the command shows it, once it fulfils the condition."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            found: Mapping[str, Any] = await flow.run_command("tasks get", task)
            if fits(found):
                return found
            await asyncio.sleep(0.02)


def ended(count: int) -> Callable[[Mapping[str, Any]], bool]:
    """Whether so many runs of a task have ended."""
    return lambda task: sum(1 for run in task["runs"] if run["ended"]) == count


async def greeted(stage: HostTestEnv, flow: RunningHost) -> None:
    """Start a conversation."""
    await stage.fake.person_writes("hi")
    await stage.fake.wait_for_sent(1)
    stage.fake.sent.clear()


@pytest.mark.behaviour("TK-01", "TK-02", "TK-05", "TK-06")
async def test_a_one_time_task_runs_at_its_time_and_answers_in_its_chat(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=COSTS)
        await greeted(host_env_with_events, flow)
        made = await flow.run_command("tasks create", group="main", prompt="what does it cost", at="in 1s")
        assert flow.texts() == []
        await host_env_with_events.fake.wait_for_sent(1)
        done = await wait_for_task(flow, made["id"], lambda task: task["runs"][0]["ended"] is not None)
        assert done["status"] == "done"
        [run] = done["runs"]
        assert (run["outcome"], run["cost_usd"], run["tokens"]) == ("completed", 0.5, 7)
        assert run["due"] <= run["started"] <= run["ended"]
    assert flow.texts("c1") == ["done: what does it cost"]


@pytest.mark.behaviour("TK-05")
async def test_a_recurring_task_can_be_run_outside_its_schedule(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await greeted(host_env_with_events, flow)
        made = await flow.run_command("tasks create", group="main", prompt="look", cron="0 0 1 1 *")
        for number in (1, 2):
            await flow.run_command("tasks run", made["id"])
            await host_env_with_events.fake.wait_for_sent(number)
            await wait_for_task(flow, made["id"], ended(number))
        task = await flow.run_command("tasks get", made["id"])
        assert (task["status"], len(task["runs"])) == ("active", 2)
        assert task["next_due"].endswith("-01-01T00:00:00+00:00")
    assert flow.texts() == ["echo: look", "echo: look"]


@pytest.mark.behaviour("TK-04", "TK-06")
async def test_a_recurring_task_that_fails_three_times_is_paused_and_the_chat_is_told_how_to_resume_it(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await greeted(host_env_with_events, flow)
        await flow.ensure_group(script=failing_script("permanent"))
        made = await flow.run_command("tasks create", group="main", prompt="look", cron="0 0 1 1 *")
        for number in (1, 2, 3):
            await flow.run_command("tasks run", made["id"])
            failed = await wait_for_task(flow, made["id"], ended(number))
            assert failed["failures_in_a_row"] == number
        assert failed["status"] == "paused"
        assert {run["outcome"] for run in failed["runs"]} == {"failed"}
        await host_env_with_events.fake.wait_for_sent(4)
        [told] = [text for text in flow.texts() if "paused" in text]
        assert f"nanohost tasks resume {made['id']}" in told
        await flow.ensure_group(script=[])
        resumed = await flow.run_command("tasks resume", made["id"])
        assert resumed["status"] == "active"
        await flow.run_command("tasks run", made["id"])
        good = await wait_for_task(flow, made["id"], lambda task: task["runs"][0]["outcome"] == "completed")
        assert good["failures_in_a_row"] == 0


@pytest.mark.behaviour("TK-02", "TK-03")
async def test_a_task_due_while_the_host_was_down_runs_at_the_next_start(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await greeted(host_env_with_events, flow)
        made = await flow.run_command("tasks create", group="main", prompt="look", at="in 3h")
    async with open_home_store(flow.home, durable=False) as store, store.transaction() as tx:
        await tx.execute("UPDATE tasks SET next_due = ?", (to_text(flow.host.clock.now() - timedelta(hours=2)),))
    async with host_env_with_events.run_host() as flow:
        await host_env_with_events.fake.wait_for_sent(1)
        await wait_for_task(flow, made["id"], lambda task: task["runs"][0]["outcome"] == "completed")
    assert flow.texts() == ["echo: look"]
