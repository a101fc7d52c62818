"""An operator's commands about tasks, without a host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nanohost.channel_api import InboundEvent, Sender
from nanohost.db import agent_groups, events, messaging_groups, routes, sessions, tasks, users, wirings
from nanohost.db.events import ChatKey
from nanohost.db.routes import Route, RouteOutcome
from nanohost.db.tasks import RunOutcome
from nanohost.errors import UsageError
from nanohost.model import SessionId
from nanohost.testing.manual_clock import ManualClock
from nanohost_protocol.rows import Usage
from nanohost_protocol.times import to_text
from tests.commands.conftest import Operator

CHAT = {"channel": "telegram", "chat": "123", "group": "main"}


async def conversation(operator: Operator, thread: str | None = None) -> SessionId:
    """A session of the agent `main`, in a chat."""
    context = operator.context
    if await agent_groups.find(context.store, "main") is None:
        await operator.run("agents create", folder="main")
        await operator.run("wirings create", **CHAT)
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
        await operator.run(words, **arguments)
    assert caught.value.hint
    return caught.value


@pytest.mark.behaviour("TK-05")
async def test_a_task_can_be_created_listed_changed_and_ended(operator: Operator) -> None:
    session = await conversation(operator)
    made = await operator.run(
        "tasks create", group="main", prompt="What is new?", cron="0 9 * * 1-5", timezone="Europe/Berlin"
    )
    assert made["next_due"] == "2026-01-02T09:00:00+01:00"
    assert made["session"] == session
    id = made["id"]
    shown = await operator.render("tasks get", id=id[:6])
    assert "chat: telegram 123" in shown
    assert "answers_to: telegram 123 (telegram:123)" in shown
    assert "it has not run yet" in shown
    assert [row["id"] for row in await operator.run("tasks list", session=session[:8])] == [id]
    assert (await operator.run("tasks pause", id=id))["status"] == "paused"
    assert (await operator.run("tasks resume", id=id))["status"] == "active"
    changed = await operator.run("tasks update", id=id, prompt="What is old?", at="2026-02-01T10:00")
    assert (changed["cron"], changed["next_due"]) == (None, "2026-02-01T10:00:00+01:00")
    assert "when the host runs" in (await operator.run("tasks run", id=id))["next"]
    assert (await operator.run("tasks cancel", id=id))["status"] == "cancelled"
    assert await operator.run("tasks list") == []
    assert [row["status"] for row in await operator.run("tasks list", all=True)] == ["cancelled"]


@pytest.mark.behaviour("TK-05", "OP-05")
async def test_an_impossible_task_is_refused_with_what_to_type(operator: Operator) -> None:
    assert "one conversation" in str(await refusal(operator, "tasks create", prompt="x", at="in 10m"))
    await operator.run("agents create", folder="other")
    assert "no conversation yet" in str(await refusal(operator, "tasks create", prompt="x", at="in 10m", group="other"))
    await conversation(operator)
    assert "needs a time" in str(await refusal(operator, "tasks create", prompt="x", group="main"))
    assert "no time" in str(await refusal(operator, "tasks create", prompt="x", group="main", at="soon"))
    assert "never falls due" in str(
        await refusal(operator, "tasks create", prompt="x", group="main", cron="0 0 30 2 *")
    )
    assert "no task" in str(await refusal(operator, "tasks get", id="j"))
    made = await operator.run("tasks create", group="main", prompt="x", at="in 10m")
    assert "nothing is to be changed" in str(await refusal(operator, "tasks update", id=made["id"]))
    await operator.run("tasks run", id=made["id"])
    assert "about to" in str(await refusal(operator, "tasks run", id=made["id"]))
    await operator.run("tasks cancel", id=made["id"])
    assert "is cancelled" in str(await refusal(operator, "tasks run", id=made["id"]))
    await conversation(operator, thread="t1")
    assert "more than one conversation" in str(
        await refusal(operator, "tasks create", prompt="x", at="in 10m", group="main")
    )


@pytest.mark.behaviour("SE-12", "OP-01")
async def test_during_a_pause_no_task_is_overdue_or_announced_to_run_now(operator: Operator) -> None:
    await conversation(operator)
    made = await operator.run("tasks create", group="main", prompt="What is new?", at="in 10m")
    clock = operator.context.clock
    assert isinstance(clock, ManualClock)
    assert (await operator.run("status"))["tasks_overdue"] == []
    await clock.advance(601)
    assert (await operator.run("status"))["tasks_overdue"] != [], "no host runs that is about to"
    await clock.advance(3600)
    assert (await operator.run("status"))["tasks_overdue"] != []
    await operator.run("pause")
    asked = await operator.run("tasks run", id=made["id"])
    assert asked["next"] == "it runs when all goes on: nanohost resume"
    assert (await operator.run("status"))["tasks_overdue"] == []


async def record_message(operator: Operator, session: SessionId, user: str, id: str) -> None:
    """Record that somebody wrote in this session."""
    context = operator.context
    channel_type, _, handle = user.partition(":")
    now = context.clock.now()
    event = InboundEvent(
        platform_id="123",
        platform_message_id=id,
        sender=Sender(handle=handle, name=handle),
        text="hello",
        sent_at=now,
    )
    chat = ChatKey(channel_type, "default", "123")
    [wiring] = await wirings.list_all(context.store)
    async with context.store.transaction() as tx:
        await events.add(tx, chat, event, now=now)
    stored = (await events.list_new(context.store, chat, limit=100))[-1]
    route = Route(event_id=stored.id, wiring_id=wiring.id, outcome=RouteOutcome.WRITTEN, session_id=session)
    async with context.store.transaction() as tx:
        await routes.add(tx, replace(route, message_id=f"i{id}"), now=now)


@pytest.mark.behaviour("TK-05")
@pytest.mark.parametrize("owner", ["telegram:ann", "terminal:ann"])
async def test_among_several_sessions_a_task_uses_the_one_the_owner_wrote_in_last(
    operator: Operator, owner: str
) -> None:
    one, other, third = [await conversation(operator, thread=thread) for thread in ("t1", "t2", "t3")]
    await operator.run("roles create", user="telegram:ann", role="owner")
    await operator.run("chats update", id=1, name="Family")
    for session, user, id in ((one, owner, "1"), (other, owner, "2"), (third, "telegram:eve", "3")):
        await record_message(operator, session, user, id)
    made = await operator.run("tasks create", prompt="x", at="in 10m", group="main")
    assert made["session"] == other
    assert made["note"] == (
        "main has several conversations: this is the one that an owner wrote in last, in telegram Family;"
        " --session or --chat names another"
    )
    await record_message(operator, one, owner, "4")
    assert (await operator.run("tasks create", prompt="x", at="in 10m", group="main"))["session"] == one


@pytest.mark.behaviour("TK-05")
async def test_an_identity_linked_with_an_owner_counts_as_the_owner(operator: Operator) -> None:
    sessions = [await conversation(operator, thread=thread) for thread in ("t1", "t2")]
    await operator.run("roles create", user="slack:U1", role="owner")
    async with operator.context.store.transaction() as tx:
        for user in ("slack:U1", "telegram:ann"):
            await users.record_seen(tx, user, name="", now=operator.context.clock.now())
    await operator.run("users link", user="slack:U1", other="telegram:ann")
    await record_message(operator, sessions[1], "telegram:ann", "1")
    made = await operator.run("tasks create", prompt="x", at="in 10m", group="main")
    assert made["session"] == sessions[1]


async def test_a_time_in_the_past_is_refused_with_the_likely_intended_one(operator: Operator) -> None:
    session = await conversation(operator)
    said = str(await refusal(operator, "tasks create", session=session, prompt="Water", at="2025-03-01T09:00"))
    assert "is in the past: it is Thursday, 2026-01-01T" in said
    assert "You probably meant 2026-03-01T09:00" in said


async def test_a_first_run_in_the_past_is_refused_for_a_recurring_task(operator: Operator) -> None:
    session = await conversation(operator)
    made = await operator.run("tasks create", session=session, prompt="Water", cron="0 9 * * *")
    for asked in (("tasks create", {"session": session, "prompt": "Water"}), ("tasks update", {"id": made["id"]})):
        said = str(await refusal(operator, asked[0], **asked[1], at="2025-03-01T09:00", cron="0 8 * * *"))
        assert "You probably meant 2026-03-01T09:00" in said
    assert (await operator.run("tasks get", id=made["id"]))["cron"] == "0 9 * * *"


async def test_a_run_without_a_known_model_price_has_an_unknown_cost(operator: Operator) -> None:
    session, store = await conversation(operator), operator.context.store
    made = await operator.run("tasks create", session=session, prompt="Water", at="in 1 h")
    now = operator.context.clock.now()
    async with store.transaction() as tx:
        await tx.execute(
            "INSERT INTO task_runs (task_id, session_id, due, message_id, decided_at, started_at)"
            " VALUES (?, ?, ?, 'k1', ?, ?)",
            (made["id"], session, *[to_text(now)] * 3),
        )
    async with store.transaction() as tx:
        [run] = await tasks.list_open_runs(tx, session)
        usage = Usage(tokens_in=10, tokens_out=2, cost_usd=None)
        await tasks.end_run(tx, run, RunOutcome.COMPLETED, now, usage=usage, error=None)
    [row] = (await operator.run("tasks get", id=made["id"]))["runs"]
    assert (row["cost_usd"], row["tokens"]) == ("unknown", 12)
