"""An operator's commands about tasks, without a host."""

from __future__ import annotations

import pytest

from nanohost.errors import UsageError
from nanohost.model import SessionId
from nanohost.store import agent_groups, messaging_groups, sessions
from nanohost.testing.manual_clock import ManualClock
from tests.commands.conftest import Operator

CHAT = {"channel": "telegram", "chat": "123", "group": "main"}


async def conversation(operator: Operator, thread: str | None = None) -> SessionId:
    """A conversation of the agent `main`, in a chat."""
    context = operator.context
    if await agent_groups.find(context.store, "main") is None:
        await operator.asks("groups create", folder="main")
        await operator.asks("wirings create", **CHAT)
    group = await agent_groups.find(context.store, "main")
    chat = await messaging_groups.find(context.store, channel_type="telegram", instance="default", platform_id="123")
    assert group is not None
    assert chat is not None
    async with context.store.transaction() as tx:
        return await sessions.add(
            tx, agent_group=group.id, messaging_group=chat.id, thread_id=thread, now=context.clock.now()
        )


async def refusal(operator: Operator, words: str, **arguments: object) -> UsageError:
    with pytest.raises(UsageError) as caught:
        await operator.asks(words, **arguments)
    assert caught.value.hint
    return caught.value


@pytest.mark.behaviour("TK-05")
async def test_a_task_is_made_listed_changed_and_ended(operator: Operator) -> None:
    session = await conversation(operator)
    made = await operator.asks(
        "tasks create", group="main", prompt="What is new?", cron="0 9 * * 1-5", timezone="Europe/Berlin"
    )
    assert made["next_due"] == "2026-01-02T09:00:00+01:00"
    assert made["session"] == session
    id = made["id"]
    shown = await operator.reads("tasks show", id=id[:6])
    assert "telegram:123" in shown
    assert "it has not run yet" in shown
    assert [row["id"] for row in await operator.asks("tasks list", session=session[:8])] == [id]
    assert (await operator.asks("tasks pause", id=id))["status"] == "paused"
    assert (await operator.asks("tasks resume", id=id))["status"] == "active"
    changed = await operator.asks("tasks update", id=id, prompt="What is old?", at="2026-02-01T10:00")
    assert (changed["cron"], changed["next_due"]) == (None, "2026-02-01T10:00:00+01:00")
    assert "when the host runs" in (await operator.asks("tasks run", id=id))["next"]
    assert (await operator.asks("tasks cancel", id=id))["status"] == "cancelled"
    assert await operator.asks("tasks list") == []
    assert [row["status"] for row in await operator.asks("tasks list", all=True)] == ["cancelled"]


@pytest.mark.behaviour("TK-05", "OP-05")
async def test_what_cannot_be_is_refused_with_what_to_type(operator: Operator) -> None:
    assert "one conversation" in str(await refusal(operator, "tasks create", prompt="x", at="in 10m"))
    await operator.asks("groups create", folder="other")
    assert "no conversation yet" in str(await refusal(operator, "tasks create", prompt="x", at="in 10m", group="other"))
    await conversation(operator)
    assert "needs a time" in str(await refusal(operator, "tasks create", prompt="x", group="main"))
    assert "no time" in str(await refusal(operator, "tasks create", prompt="x", group="main", at="soon"))
    assert "never falls due" in str(
        await refusal(operator, "tasks create", prompt="x", group="main", cron="0 0 30 2 *")
    )
    assert "no task" in str(await refusal(operator, "tasks show", id="j"))
    made = await operator.asks("tasks create", group="main", prompt="x", at="in 10m")
    assert "nothing is to be changed" in str(await refusal(operator, "tasks update", id=made["id"]))
    await operator.asks("tasks run", id=made["id"])
    assert "about to" in str(await refusal(operator, "tasks run", id=made["id"]))
    await operator.asks("tasks cancel", id=made["id"])
    assert "is cancelled" in str(await refusal(operator, "tasks run", id=made["id"]))
    await conversation(operator, thread="t1")
    assert "2 conversations" in str(await refusal(operator, "tasks create", prompt="x", at="in 10m", group="main"))


@pytest.mark.behaviour("SE-12", "OP-01")
async def test_while_all_is_paused_no_task_is_late_and_none_is_said_to_run_now(operator: Operator) -> None:
    await conversation(operator)
    made = await operator.asks("tasks create", group="main", prompt="What is new?", at="in 10m")
    clock = operator.context.clock
    assert isinstance(clock, ManualClock)
    await clock.advance(3600)
    assert (await operator.asks("status"))["tasks_overdue"] != []
    await operator.asks("pause")
    asked = await operator.asks("tasks run", id=made["id"])
    assert asked["next"] == "it runs when all goes on: nanohost resume"
    assert (await operator.asks("status"))["tasks_overdue"] == []
