"""Chats shown by channel and name beside ids, and --chat in place of an id."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from nanohost.db import actions, agent_groups, deliveries, messaging_groups, sessions
from nanohost.db.actions import ActionRow, ActionStatus
from nanohost.db.deliveries import Delivery, DeliveryQueueKey, DeliveryStatus
from nanohost.errors import UsageError
from nanohost.model import AgentGroup, MessagingGroup, SessionId
from tests.commands.conftest import Operator
from tests.commands.test_status import running

pytestmark = pytest.mark.behaviour("OP-09")


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSessions:
    """Two sessions of the agent `main` in separate chats, and one of `work` in both."""

    family: SessionId
    team: SessionId
    shared: SessionId


@pytest.fixture
async def two(operator: Operator) -> TwoSessions:
    for folder in ("main", "work"):
        await operator.run("agents create", folder=folder)
    for channel, chat, name in (("telegram", "7", "Family"), ("slack:two", "C1", "team")):
        await operator.run("chats create", channel=channel, chat=chat, name=name)
        await operator.run("wirings create", channel=channel, chat=chat, group="main")
        await operator.run("wirings create", channel=channel, chat=chat, group="work", session="agent-shared")
    family, team = await messaging_groups.list_all(operator.context.store)
    family, team = sorted((family, team), key=lambda chat: chat.id)
    main, work = await _agent(operator, "main"), await _agent(operator, "work")
    return TwoSessions(
        family=await _session(operator, main, family),
        team=await _session(operator, main, team),
        shared=await _session(operator, work, None),
    )


async def _agent(operator: Operator, folder: str) -> AgentGroup:
    found = await agent_groups.find(operator.context.store, folder)
    assert found is not None
    return found


async def _session(
    operator: Operator, agent: AgentGroup, chat: MessagingGroup | None, thread: str | None = None
) -> SessionId:
    async with operator.context.store.transaction() as tx:
        return await sessions.add(
            tx,
            agent_group=agent.id,
            messaging_group=None if chat is None else chat.id,
            thread_id=thread,
            now=operator.context.clock.now(),
        )


async def _refusal(operator: Operator, words: str, **arguments: object) -> str:
    with pytest.raises(UsageError) as caught:
        await operator.run(words, **arguments)
    return str(caught.value)


def by_session(rows: list[dict[str, Any]], key: str = "session") -> dict[str, str]:
    return {row[key]: row["chat"] for row in rows}


async def test_a_session_shows_its_chat_and_is_found_by_it(operator: Operator, two: TwoSessions) -> None:
    both = "telegram Family, slack:two team"
    names = {two.family: "telegram Family", two.team: "slack:two team", two.shared: both}
    assert by_session(await operator.run("sessions list"), "id") == names
    assert set(by_session(await operator.run("sessions list", chat="Family"), "id")) == {two.family, two.shared}
    assert (await operator.run("sessions get", id=two.team))["chat"] == "slack:two team"


async def test_a_log_names_its_session_and_chat_and_is_found_by_chat(operator: Operator, two: TwoSessions) -> None:
    shown = await operator.render("logs", session=two.team)
    assert shown.splitlines()[0] == f"session {two.team}, in slack:two team:"
    await operator.run("wirings delete", id=2)
    clock = operator.context.clock
    async with operator.context.store.transaction() as tx:
        await sessions.make_due(tx, two.family, at=clock.now(), now=clock.now() + timedelta(minutes=1))
    found = await operator.run("logs", chat="Family")
    assert (found["session"], found["note"]) == (two.family, "")
    assert "the logs are one session's" in await _refusal(operator, "logs")
    assert "the logs are one session's" in await _refusal(operator, "logs", session=two.team, chat="Family")


async def test_of_several_sessions_in_a_chat_the_latest_active_is_used_with_a_note(
    operator: Operator, two: TwoSessions
) -> None:
    clock = operator.context.clock
    async with operator.context.store.transaction() as tx:
        await sessions.make_due(tx, two.shared, at=clock.now(), now=clock.now() + timedelta(minutes=1))
    note = "telegram Family has several conversations: this is the one that was active last; --session names another"
    found = await operator.run("logs", chat="Family")
    assert (found["session"], found["note"]) == (two.shared, note)
    assert note in await operator.render("logs", chat="Family")
    made = await operator.run("tasks create", prompt="x", at="in 10m", chat="Family")
    assert (made["session"], made["note"]) == (two.shared, note)
    made = await operator.run("tasks create", prompt="x", at="in 10m", chat="Family", group="main")
    assert (made["session"], made["chat"], "note" in made) == (two.family, "telegram Family", False)


async def test_tasks_show_their_chat_and_are_found_by_it(operator: Operator, two: TwoSessions) -> None:
    for session in (two.family, two.team, two.shared):
        await operator.run("tasks create", prompt="x", at="in 10m", session=session)
    assert by_session(await operator.run("tasks list"))[two.team] == "slack:two team"
    assert set(by_session(await operator.run("tasks list", chat="team"))) == {two.team, two.shared}
    assert "belongs to one conversation" in await _refusal(
        operator, "tasks create", prompt="x", at="in 10m", chat="team", session=two.team
    )


async def test_requests_show_their_chat_and_are_found_by_it(operator: Operator, two: TwoSessions) -> None:
    now = operator.context.clock.now()
    asked = ActionRow(
        session_id=two.team,
        seq=2,
        out_id="o",
        name="tasks.list",
        arguments="{}",
        origin=None,
        requested_at=now,
        created_at=now,
        status=ActionStatus.DONE,
        reason=None,
    )
    async with operator.context.store.transaction() as tx:
        for session in (two.team, two.family):
            await actions.add(tx, replace(asked, session_id=session))
    assert by_session(await operator.run("actions list")) == {
        two.team: "slack:two team",
        two.family: "telegram Family",
    }
    assert set(by_session(await operator.run("actions list", chat="Family"))) == {two.family}


async def test_deliveries_show_their_chat_and_are_found_by_it(operator: Operator, two: TwoSessions) -> None:
    now = operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        for seq, place in enumerate((("telegram", "default", "7"), ("slack", "two", "C1"), ("fake", "default", "c9"))):
            delivery = Delivery(
                queue=DeliveryQueueKey(two.family, *place),
                seq=seq,
                out_id=f"o{seq}",
                kind="chat",
                thread_id=None,
                reply_to=None,
                content="{}",
                status=DeliveryStatus.DEAD,
                created_at=now,
            )
            await deliveries.add(tx, delivery)
    shown = await operator.run("deliveries list")
    assert {(row["chat"], row["place"]) for row in shown} == {
        ("telegram Family", "telegram:default:7"),
        ("slack:two team", "slack:two:C1"),
        ("fake c9", "fake:default:c9"),
    }
    assert [row["seq"] for row in await operator.run("deliveries list", chat="team")] == [1]
    status = await operator.run("status")
    assert {(row["chat"], row["place"]) for row in status["deliveries_dead"]} == {
        (row["chat"], row["place"]) for row in shown
    }


async def test_status_shows_the_chat_of_each_session(operator: Operator, two: TwoSessions) -> None:
    now = operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        await sessions.make_due(tx, two.team, at=now, now=now)
    host = running(
        operator,
        containers=[{"session": two.family, "state": "running", "busy": True, "for_s": 20}],
        sessions_slowed=[{"session": two.shared, "reason": "too much"}],
    )
    shown = await host.render("status")
    for session, chat in ((two.family, "telegram Family"), (two.team, "slack:two team"), (two.shared, "telegram Fam")):
        [line] = [line for line in shown.splitlines() if line.split()[:1] == [session]]
        assert chat in line


async def test_an_unwired_chat_has_no_sessions(operator: Operator, two: TwoSessions) -> None:
    assert "there is no chat 'Nowhere'" in await _refusal(operator, "tasks list", chat="Nowhere")
    await operator.run("chats create", channel="telegram", chat="9", name="Empty")
    assert await operator.run("tasks list", chat="Empty") == []
    assert "no conversation in telegram Empty yet" in await _refusal(operator, "logs", chat="Empty")


def test_a_session_can_be_given_by_id_or_by_chat() -> None:
    from nanohost.cli.main import build_parser

    for words in (["logs", "s4kq"], ["logs", "--chat", "Family"]):
        options = build_parser().parse_args(words)
        assert (getattr(options, "session", None), getattr(options, "chat", None)) in {
            ("s4kq", None),
            (None, "Family"),
        }
