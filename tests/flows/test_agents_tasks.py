"""Tasks of agents, from the request to what people read."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from nanohost.db.tasks import Task, TaskStatus
from nanohost.scheduler import task_operations
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import RunningHost

REMIND = {
    "match": "^remind",
    "actions": [
        {"tool": "schedule_task", "arguments": {"prompt": "time is up", "at": "in 1 s"}, "answer": "{result}"},
    ],
}
EVERY_DAY = {"tool": "schedule_task", "arguments": {"prompt": "report", "cron": "0 9 * * *"}, "answer": "{result}"}


async def tasks(flow: RunningHost) -> list[Task]:
    return await task_operations.list_open(flow.host.store, (await flow.session()).id)


def replace_script(flow: RunningHost, *actions: Mapping[str, object]) -> None:
    """Replace the agent's script: every message makes it do this."""
    (flow.home.groups / "main" / "script.json").write_text(json.dumps([{"match": ".", "actions": list(actions)}]))


@pytest.mark.behaviour("TK-05")
async def test_a_reminder_of_an_agent_is_sent_once_at_its_time(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await flow.wire(script=[REMIND])
        await host_env.fake.person_writes("remind me")
        said, reminder = await host_env.fake.wait_for_sent(2)
        [row] = await flow.host.store.fetch_all("SELECT id, status FROM tasks")
    assert said.text.startswith(f"Scheduled as task {row['id']}, for ")
    assert "(UTC). You are told if the host cannot do it" in said.text
    assert (reminder.text, reminder.address.platform_id, reminder.reply_to) == ("echo: time is up", "c1", None)
    assert row["status"] == "done"
    assert flow.texts()[1:] == ["echo: time is up"]


async def test_the_demo_provider_sends_reminders(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host({"provider": "demo"}) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("remind me in 1s to drink water")
        await host_env_with_events.fake.wait_for_sent(2)
    assert flow.texts() == ["I will remind you in 1s: drink water", "Reminder: drink water"]


@pytest.mark.behaviour("TK-05")
async def test_an_agent_lists_pauses_changes_and_cancels_its_tasks(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=[{"match": ".", "actions": [EVERY_DAY]}])
        await host_env_with_events.fake.person_writes("report daily")
        await host_env_with_events.fake.wait_for_sent(1)
        [task] = await tasks(flow)
        listing = {"tool": "list_tasks", "answer": "{result}"}
        for number, change in enumerate(({"change": "pause"}, {"change": "update", "prompt": "short report"}), 2):
            replace_script(flow, {"tool": "change_task", "arguments": {"id": task.id, **change}, "answer": "{result}"})
            await host_env_with_events.fake.person_writes("change it")
            await host_env_with_events.fake.wait_for_sent(number)
        [changed] = await tasks(flow)
        assert (changed.status, changed.content) == (TaskStatus.PAUSED, "short report")
        replace_script(flow, listing)
        await host_env_with_events.fake.person_writes("list")
        listed = (await host_env_with_events.fake.wait_for_sent(4))[-1].text
        replace_script(
            flow, {"tool": "change_task", "arguments": {"id": task.id, "change": "cancel"}, "answer": "gone"}
        )
        await host_env_with_events.fake.person_writes("cancel it")
        await host_env_with_events.fake.wait_for_sent(5)
        assert await tasks(flow) == []
    assert listed.startswith(f"{task.id} (paused, next ")
    assert listed.endswith("cron 0 9 * * * in UTC): short report")


@pytest.mark.behaviour("TK-05")
async def test_a_refused_request_is_reported_to_the_agent_and_the_chat(
    host_env_with_events: HostTestEnv,
) -> None:
    refused = {"match": "was refused", "actions": [{"answer": "I could not: {text}"}]}
    wrong = {"tool": "schedule_task", "arguments": {"prompt": "p", "cron": "whenever"}}
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=[refused, {"match": ".", "actions": [wrong]}])
        await host_env_with_events.fake.person_writes("do it whenever")
        [answer] = await host_env_with_events.fake.wait_for_sent(1)
        assert await tasks(flow) == []
    assert answer.text.startswith("I could not: Your request tasks.create was refused: 'whenever' is not a cron")
    assert answer.address.platform_id == "c1"


@pytest.mark.behaviour("TK-05")
async def test_an_agent_cannot_change_tasks_of_another(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=[{"match": ".", "actions": [EVERY_DAY]}])
        await host_env_with_events.fake.person_writes("report daily")
        await host_env_with_events.fake.wait_for_sent(1)
        [task] = await tasks(flow)
        cancel = {"tool": "change_task", "arguments": {"id": task.id, "change": "cancel"}}
        refused = {"match": "was refused", "actions": [{"answer": "{text}"}]}
        await flow.wire("c2", "other", script=[refused, {"match": ".", "actions": [cancel]}])
        await host_env_with_events.fake.person_writes("cancel it", chat="c2")
        answer = (await host_env_with_events.fake.wait_for_sent(2))[-1]
        assert await tasks(flow) == [task]
    assert f"there is no task '{task.id}' in this conversation" in answer.text


@pytest.mark.behaviour("TK-07")
async def test_a_repeated_message_is_sent_without_running_the_agent(host_env_with_events: HostTestEnv) -> None:
    repeat = {"tool": "send_message", "arguments": {"text": "stand up", "cron": "0 9 * * *", "at": "in 1 s"}}
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=[{"match": ".", "actions": [repeat]}])
        await host_env_with_events.fake.person_writes("go")
        [message] = await host_env_with_events.fake.wait_for_sent(1)
        [task] = await tasks(flow)
        [turns] = await flow.host.store.fetch_all("SELECT count(*) FROM routes")
    assert (message.text, message.address.platform_id, message.reply_to) == ("stand up", "c1", None)
    assert (task.cron, task.status, turns[0]) == ("0 9 * * *", TaskStatus.ACTIVE, 1)


@pytest.mark.behaviour("TK-07")
async def test_a_scheduled_message_does_not_delay_the_answer(host_env_with_events: HostTestEnv) -> None:
    later = {"tool": "send_message", "arguments": {"text": "later", "at": "in 1 s"}}
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=[{"match": ".", "actions": [later, {"answer": "now"}]}])
        await host_env_with_events.fake.person_writes("go")
        await host_env_with_events.fake.wait_for_sent(2)
    assert flow.texts() == ["now", "later"]
