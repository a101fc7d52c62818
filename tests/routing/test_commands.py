"""Commands in routing: who may use them, where, and that each is carried out and answered once."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from nanohost.chat_commands.classify import CommandDecision, Discard, ParsedCommand, PassThrough, classify_command
from nanohost.chat_commands.clear import CLEARED_TEXT
from nanohost.chat_commands.pause import PAUSED_TEXT
from nanohost.chat_commands.registry import chat_commands
from nanohost.chat_commands.stop import NOTHING_TO_STOP
from nanohost.db import deliveries, paused, roles, routes, tasks
from nanohost.db.deliveries import DeliveryStatus
from nanohost.db.domain_events import ChatHasEvents
from nanohost.db.tasks import NewRun, RunOutcome, Task
from nanohost.model import EngageMode, Role, SessionId, TaskId, UnknownSender
from nanohost_protocol.payloads import SystemIn, TaskIn, encode
from nanohost_protocol.rows import InKind, NewMessageIn
from tests.routing.test_router import CHAT, World, crash
from tests.routing.test_router import world as world
from tests.support.rows import make_active_task

PASSES = PassThrough()


@pytest.mark.behaviour("AC-06")
@pytest.mark.parametrize(
    ("text", "is_admin", "expected"),
    [
        ("hello", False, PASSES),
        ("/stop", False, ParsedCommand("stop", False)),
        ("  /STOP@some_bot \n", False, ParsedCommand("stop", False)),
        ("/stop it, please", False, PASSES),
        ("/stopwatch", False, PASSES),
        ("and/or /stop", False, PASSES),
        ("/", False, PASSES),
        ("//stop", False, PASSES),
        ("/unknown", False, PASSES),
        ("/login", True, Discard("/login is no command for a chat")),
        ("/Config theme dark", False, Discard("/config is no command for a chat")),
        ("/compact keep the names", True, PASSES),
        (
            "/compact keep the names",
            False,
            ParsedCommand("compact", False, refusal="Only an admin may use /compact here."),
        ),
    ],
)
def test_commands_are_classified_apart_from_messages(text: str, is_admin: bool, expected: CommandDecision) -> None:
    assert classify_command(text, is_admin=is_admin) == expected


def test_every_command_has_a_help_text() -> None:
    assert list(chat_commands()) == ["clear", "help", "status", "stop"]
    assert all(command.help for command in chat_commands().values())


async def answers(world: World) -> list[str]:
    rows = await deliveries.latest(world.store.reports, status=DeliveryStatus.PENDING, session=None, limit=20)
    return [json.loads(row.content)["text"] for row in sorted(rows, key=lambda row: row.seq)]


@pytest.mark.behaviour("SE-12", "AC-06")
async def test_a_command_is_answered_without_waking_or_telling_the_agent(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await world.says("/stop")
    await world.route()
    assert await answers(world) == [NOTHING_TO_STOP]
    assert await world.mailbox("a") == []
    assert (world.woken, world.obeying, len(world.answered)) == ([], [], 1)
    assert (await world.session("a")).due_at is None
    assert await world.outcomes() == [("/stop", "written")]


@pytest.mark.behaviour("SE-12")
async def test_stop_closes_messages_before_it_and_not_those_after_it(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await world.says("one", "two", "/stop", "three")
    await world.route()
    session = await world.session("a")
    rows = await world.mailboxes.update(session, lambda box: [row.kind.value for row in box.pending()])
    assert rows == ["control", "chat"]
    assert world.obeying == world.woken == [session.id]
    assert await answers(world) == []  # it is sent when the runner has stopped


@pytest.mark.behaviour("SE-12")
async def test_a_second_stop_is_not_answered_before_the_first_is_done(world: World) -> None:
    """Not "There is nothing to stop.", and then "Stopped."."""
    await world.wire(await world.chat(), await world.agent("a"))
    await world.says("one", "/stop", "/stop")
    await world.route()
    assert await answers(world) == []
    session = await world.session("a")
    await world.mailboxes.update(session, lambda box: [box.close(row.id, "completed") for row in box.pending()])
    await world.says("/stop")
    await world.route()
    assert await answers(world) == [NOTHING_TO_STOP]


@pytest.mark.behaviour("SE-12", "SE-13")
async def test_stop_closes_a_wake_message_that_failed_once_and_keeps_a_new_one(
    world: World,
) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await world.says("hello")
    await world.route()
    session, now = await world.session("a"), world.clock.now()
    word = NewMessageIn(id="w1", kind=InKind.SYSTEM, timestamp=now, content=encode(SystemIn(text="hi")), on_wake=True)
    await world.mailboxes.put(session, [word, replace(word, id="w2")])
    await world.mailboxes.update(session, lambda box: box.retry("w1", tries=0, process_after=now))
    await world.says("/stop")
    await world.route()
    found = await world.mailboxes.update(session, lambda box: [row.id for row in box.pending() if row.on_wake])
    assert found == ["w2"]


@pytest.mark.behaviour("SE-12")
async def test_a_crash_between_writing_and_recording_a_command_does_not_repeat_it(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await world.says("one", "/stop", "/stop", "/clear")
    await crash(world)
    await crash(world)
    await world.route()
    rows = await world.mailboxes.update(
        await world.session("a"), lambda box: [json.loads(row.content)["command"] for row in box.pending()]
    )
    assert rows == ["stop", "stop", "clear"]
    assert await answers(world) == [CLEARED_TEXT]


@pytest.mark.behaviour("AC-06")
async def test_an_unknown_sender_cannot_use_commands(world: World) -> None:
    await world.wire(await world.chat(unknown=UnknownSender.STRICT), await world.agent("a"))
    await world.says("/stop", "/help")
    await world.route()
    assert [outcome for _, outcome in await world.outcomes()] == ["denied", "denied"]
    assert await answers(world) == []


@pytest.mark.behaviour("AC-06")
async def test_a_filtered_command_is_ignored_and_an_admin_command_is_refused_to_others(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    async with world.store.transaction() as tx:
        await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=world.clock.now())
    await world.says("/login", "/context")
    await world.says("/context", sender="boss")
    await world.route()
    assert [outcome for _, outcome in await world.outcomes()] == ["denied", "written", "written"]
    assert await answers(world) == ["Only an admin may use /context here."]
    assert await world.mailbox("a") == ["/context"]


@pytest.mark.behaviour("SE-12")
async def test_a_command_for_another_bot_is_an_ordinary_message_in_a_group(world: World) -> None:
    await world.wire(await world.chat(is_group=True), await world.agent("a"))
    await world.says("hello", "/clear@another_bot", "/pause@another_bot", is_group=True)
    await world.route()
    assert await answers(world) == []
    assert await world.mailbox("a") == ["hello", "/clear@another_bot", "/pause@another_bot"]


@pytest.mark.behaviour("AC-06")
async def test_a_command_of_the_model_meant_for_another_bot_is_kept_from_the_agent_in_a_group(world: World) -> None:
    """Whoever writes it, and without an answer: it is not for this bot."""
    await world.wire(await world.chat(is_group=True), await world.agent("a"))
    async with world.store.transaction() as tx:
        await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=world.clock.now())
    await world.says("/compact@another_bot", is_group=True, sender="boss")
    await world.says("/compact@another_bot", is_group=True)
    await world.says("/compact@our_bot", is_group=True, sender="boss", mentions=True)
    await world.route()
    assert await answers(world) == []
    assert await world.mailbox("a") == ["/compact@our_bot"]


@pytest.mark.behaviour("SE-12")
async def test_during_a_pause_the_sender_of_another_bots_command_is_told_if_an_agent_gets_it(world: World) -> None:
    await world.wire(await world.chat(is_group=True), await world.agent("a"))
    async with world.store.transaction() as tx:
        await paused.begin(tx, by="fake:boss", at=world.clock.now(), place=None)
    await world.says("/clear@another_bot", is_group=True)
    await world.route()
    assert await world.mailbox("a") == ["/clear@another_bot"]
    assert await answers(world) == [PAUSED_TEXT]


@pytest.mark.behaviour("SE-12")
async def test_who_writes_is_told_of_each_pause_that_begins_while_the_host_runs(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    async with world.routing():

        async def says(text: str) -> int:
            await world.says(text)
            world.store.bus.publish(ChatHasEvents(CHAT))
            await world.until(world.nothing_new)
            return len(await answers(world))

        assert await says("before") == 0
        for told in (1, 2):
            async with world.store.transaction() as tx:
                await paused.begin(tx, by="fake:boss", at=world.clock.now() + timedelta(hours=told), place=None)
            assert await says(f"in pause {told}") == told
            async with world.store.transaction() as tx:
                await paused.end(tx)
            assert await says(f"after pause {told}") == told


@pytest.mark.behaviour("SE-12")
async def test_a_group_command_needs_engagement_or_a_mention_and_a_direct_one_does_not(world: World) -> None:
    chat = await world.chat(is_group=True)
    await world.wire(chat, await world.agent("a"), engage=EngageMode.MENTION)
    await world.wire(chat, await world.agent("b"), pattern="hey")
    await world.says("/stop", is_group=True)
    await world.route()
    assert {outcome for _, outcome in await world.outcomes()} == {"not_engaged"}
    await world.says("/stop", is_group=True, mentions=True)
    await world.route()
    assert await answers(world) == [NOTHING_TO_STOP, NOTHING_TO_STOP]
    await world.says("/help")
    await world.route()
    assert len(await answers(world)) == 4


@pytest.mark.behaviour("SE-12")
async def test_a_command_waits_for_a_damaged_mailbox_as_a_message_does(world: World) -> None:
    async def nothing_waits() -> bool:
        return await routes.list_waiting_sessions(world.store) == []

    await world.wire(await world.chat(), await world.agent("a"))
    await world.says("one")
    await world.route()
    broken = world.mailboxes.layout(await world.session("a")).inbound_db
    sound = broken.read_bytes()
    broken.write_bytes(b"garbage" * 1000)
    await world.says("/stop", "two")
    await world.route()
    broken.write_bytes(sound)
    async with world.router().opened():
        await world.until(nothing_waits)
    rows = await world.mailboxes.update(
        await world.session("a"), lambda box: [(row.kind.value, row.seq) for row in box.pending()]
    )
    assert rows == [("control", 4), ("chat", 6)]


@pytest.mark.behaviour("SE-12")
async def test_a_stopped_task_run_ends_as_skipped_also_after_a_crash(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await world.says("one")
    await world.route()
    session, now = await world.session("a"), world.clock.now()
    async with world.store.transaction() as tx:
        await tasks.add(tx, a_task(session.id, now))
        await tasks.add_run(tx, NewRun(task_id=TaskId("t1"), session_id=session.id, due=now, message_id="r1"), now)
    content = encode(TaskIn(prompt="look"))
    await world.mailboxes.put(session, [NewMessageIn(id="r1", kind=InKind.TASK, timestamp=now, content=content)])
    await world.says("/stop")
    await crash(world)
    await world.route()
    run = await tasks.find_run(world.store, TaskId("t1"), now)
    assert run is not None
    assert run.outcome is RunOutcome.SKIPPED


@pytest.mark.behaviour("TK-04", "TK-06")
async def test_asking_for_status_does_not_mark_an_unrecorded_failed_run_as_stopped(
    world: World,
) -> None:
    """As when the host was killed between the mailbox and the database: the failure must count, with its reason."""
    await world.wire(await world.chat(), await world.agent("a"))
    await world.says("hello")
    await world.route()
    session, now = await world.session("a"), world.clock.now()
    async with world.store.transaction() as tx:
        await tasks.add(tx, a_task(session.id, now))
        await tasks.add_run(tx, NewRun(task_id=TaskId("t1"), session_id=session.id, due=now, message_id="r1"), now)
    content = encode(TaskIn(prompt="look"))
    await world.mailboxes.put(session, [NewMessageIn(id="r1", kind=InKind.TASK, timestamp=now, content=content)])
    await world.mailboxes.update(session, lambda box: box.close("r1", "failed"))
    await world.says("/status")
    await world.route()
    run = await tasks.find_run(world.store, TaskId("t1"), now)
    assert run is not None
    assert run.outcome is None


def a_task(session: SessionId, now: datetime) -> Task:
    """A one-time task that is due now."""
    return make_active_task(now, session_id=session)
