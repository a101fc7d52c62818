"""Unknown senders: held messages, dropped and counted ones, and the replies."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from nanohost.access.decision import CHAT_IS_STRICT, KNOWN_ONLY
from nanohost.approvals.requests import MAX_HELD_MESSAGES
from nanohost.channel_api import EventKind
from nanohost.db import dropped, events, messaging_groups, overdue_messages, routes, sessions, users, wirings
from nanohost.db.domain_events import ChatHasEvents, MailboxHasPendingRows
from nanohost.mailbox.mailboxes import MAX_CONTEXT_MESSAGES
from nanohost.model import (
    ApprovalId,
    EngageMode,
    EventId,
    IgnoredMessagePolicy,
    Role,
    SenderScope,
    SessionId,
    UnknownSender,
)
from nanohost.routing.engagement import NOT_ENGAGED, SENT_BY_BOT
from nanohost.routing.route_writer import RouteWriter
from nanohost.routing.unknown_sender_policy import CHAT_UNKNOWN, CHAT_UNWIRED, NO_AGENT_HERE, NO_APPROVER_YET
from nanohost_protocol.payloads import ChatIn, decode_in
from nanohost_protocol.rows import MessageIn
from nanohost_protocol.times import to_text
from tests.routing.test_router import NOON, World, _text, crash
from tests.routing.test_router import world as world


@pytest.fixture
async def owned(world: World) -> World:
    """A world with an approver."""
    await world.grant("fake:boss", Role.OWNER)
    return world


async def rows(world: World, folder: str) -> list[tuple[str, bool]]:
    """Texts in a mailbox, and whether they trigger."""
    session = await world.session(folder)
    found: list[MessageIn] = await world.mailboxes.read_inbound(session, lambda box: list(box.due(NOON)))
    return [(_text(row), row.trigger) for row in found]


async def host_messages(world: World) -> list[tuple[str, str]]:
    """Messages of the host, with their chats."""
    found = await world.store.fetch_all(
        "SELECT platform_id, content FROM deliveries WHERE session_id = 'host' ORDER BY seq"
    )
    return [(row["platform_id"], json.loads(row["content"])["text"]) for row in found]


async def held_texts(world: World) -> list[tuple[str, str]]:
    """Texts that are held, and by which approval."""
    found = await world.store.fetch_all(
        "SELECT e.text, coalesce(r.approval_id, e.approval_id) AS approval FROM inbound_events e"
        " LEFT JOIN routes r ON r.event_id = e.id AND r.outcome = 'held'"
        " WHERE e.status = 'held' OR r.event_id IS NOT NULL ORDER BY e.id"
    )
    return [(row["text"], row["approval"]) for row in found]


async def approvals(world: World) -> list[tuple[ApprovalId, str]]:
    found = await world.store.fetch_all("SELECT id, kind FROM approvals WHERE status = 'pending' ORDER BY rowid")
    return [(ApprovalId(row["id"]), row["kind"]) for row in found]


async def counts(world: World) -> dict[tuple[str, str, str], int]:
    """The counts of dropped messages, by sender, reason and agent."""
    return {
        (one.user_id, one.reason, one.agent_group): one.count
        for one in await dropped.latest(world.store.reports, limit=99)
    }


# --- context


@pytest.mark.behaviour("RT-05")
async def test_a_message_without_engagement_wakes_nobody_and_joins_the_next_that_engages(world: World) -> None:
    chat = await world.chat(is_group=True)
    await world.wire(chat, await world.agent("a"), engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE)
    await world.says("one", "two", is_group=True)
    await world.route()
    session = await world.session("a")
    assert await rows(world, "a") == [("one", False), ("two", False)]
    assert (world.woken, session.due_at) == ([], None)
    assert await world.outcomes() == [("one", "context"), ("two", "context")]
    await world.says("@nan", is_group=True, mentions=True)
    await world.says("three", is_group=True)
    await world.route()
    assert await rows(world, "a") == [("one", False), ("two", False), ("@nan", True), ("three", False)]
    assert world.woken == [session.id]
    assert await counts(world) == {}


@pytest.mark.behaviour("RT-05", "RT-10")
async def test_without_accumulate_an_unengaged_message_is_recorded_only(world: World) -> None:
    await world.wire(await world.chat(is_group=True), await world.agent("a"), engage=EngageMode.MENTION)
    await world.says("one", "two", is_group=True)
    await world.route()
    await world.says("three", is_group=True)
    await world.route()
    assert {outcome for _, outcome in await world.outcomes()} == {"not_engaged"}
    assert await counts(world) == {("fake:u1", NOT_ENGAGED, "a"): 3}
    assert [one async for one in sessions.iter_all(world.store.reports)] == []


@pytest.mark.behaviour("RT-05", "RT-04")
async def test_a_mention_does_not_stick_to_accumulated_context(world: World) -> None:
    chat = await world.chat(is_group=True)
    await world.wire(
        chat, await world.agent("a"), engage=EngageMode.MENTION_STICKY, ignored=IgnoredMessagePolicy.ACCUMULATE
    )
    for text in ("one", "two"):
        await world.says(text, is_group=True)
        await world.route()
    await world.says("@nan", is_group=True, mentions=True)
    await world.says("now", is_group=True)
    await world.route()
    assert await rows(world, "a") == [("one", False), ("two", False), ("@nan", True), ("now", True)]


@pytest.mark.behaviour("RT-05", "IN-03")
async def test_context_that_waits_for_a_damaged_mailbox_is_written_as_context(world: World) -> None:
    chat = await world.chat(is_group=True)
    await world.wire(chat, await world.agent("a"), engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE)
    await world.says("@nan", is_group=True, mentions=True)
    await world.route()
    broken = world.mailboxes.layout(await world.session("a")).inbound_db
    sound = broken.read_bytes()
    broken.write_bytes(b"garbage" * 1000)
    await world.says("later", is_group=True)
    await world.route()
    assert (await world.outcomes())[-1] == ("later", "waiting")
    broken.write_bytes(sound)
    world.woken.clear()
    async with world.routing():
        await world.until(lambda: _nothing_waits(world))
    assert await rows(world, "a") == [("@nan", True), ("later", False)]
    assert (await world.outcomes())[-1] == ("later", "context")
    assert world.woken == []


async def _nothing_waits(world: World) -> bool:
    return await world.store.fetch_one("SELECT 1 FROM routes WHERE outcome = 'waiting'") is None


@pytest.mark.behaviour("RT-05", "AC-06")
async def test_an_unaddressed_command_is_context_and_a_filtered_one_is_not(world: World) -> None:
    chat = await world.chat(is_group=True)
    await world.wire(chat, await world.agent("a"), engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE)
    await world.says("/stop", "/login", is_group=True)
    await world.route()
    assert await rows(world, "a") == [("/stop", False)]
    assert (world.obeying, world.answered) == ([], [])
    assert [outcome for _, outcome in await world.outcomes()] == ["context", "denied"]


@pytest.mark.behaviour("RT-07")
@pytest.mark.parametrize(
    ("unknown", "scope", "reason"),
    [
        (UnknownSender.STRICT, SenderScope.ALL, CHAT_IS_STRICT),
        (UnknownSender.PUBLIC, SenderScope.KNOWN, KNOWN_ONLY),
    ],
)
async def test_a_message_refused_by_access_or_sender_scope_is_not_accumulated(
    world: World, unknown: UnknownSender, scope: SenderScope, reason: str
) -> None:
    chat, agent = await world.chat(is_group=True, unknown=unknown), await world.agent("a")
    await world.wire(chat, agent, engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE, scope=scope)
    await world.grant("fake:u2", Role.MEMBER, agent)
    await world.says("a stranger's", is_group=True)
    await world.says("a member's", is_group=True, sender="u2")
    await world.says("@nan", is_group=True, mentions=True)
    await world.route()
    assert await rows(world, "a") == [("a member's", False)]
    assert await counts(world) == {("fake:u1", reason, "a"): 2}


@pytest.mark.behaviour("RT-06")
async def test_accumulated_context_keeps_the_newest_messages_and_makes_nothing_due(world: World) -> None:
    chat = await world.chat(is_group=True)
    await world.wire(chat, await world.agent("a"), engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE)
    await world.says(*(str(number) for number in range(MAX_CONTEXT_MESSAGES + 70)), is_group=True)
    await world.route()
    assert [text for text, _ in await rows(world, "a")] == [
        str(number) for number in range(70, MAX_CONTEXT_MESSAGES + 70)
    ]
    assert (world.woken, (await world.session("a")).due_at) == ([], None)


# --- wirings in order, and bots


@pytest.mark.behaviour("RT-09")
async def test_wirings_are_ordered_by_priority_and_then_by_age(world: World) -> None:
    chat = await world.chat()
    made = [
        await world.wire(chat, await world.agent(folder), priority=at) for folder, at in (("a", 1), ("b", 0), ("c", 1))
    ]
    assert [one.id for one in await wirings.list_for_chat(world.store, chat.id)] == [made[1], made[0], made[2]]
    await world.says("hello")
    await world.route()
    found = [(await world.session(folder)).id for folder in ("b", "a", "c")]
    assert world.woken == found


@pytest.mark.behaviour("IN-05")
async def test_a_bot_is_heard_only_by_a_wiring_that_allows_bots(world: World) -> None:
    chat = await world.chat(is_group=True)
    await world.wire(chat, await world.agent("a"))
    await world.wire(chat, await world.agent("b"), bots=True)
    await world.says("build failed", is_group=True, sender="ci", bot=True)
    await world.route()
    assert await world.mailbox("b") == ["build failed"]
    assert [one.group_folder async for one in sessions.iter_all(world.store.reports)] == ["b"]
    assert await counts(world) == {("fake:ci", SENT_BY_BOT, "a"): 1}


# --- unknown senders in a known chat


@pytest.mark.behaviour("AC-04", "RT-07")
async def test_an_unknown_senders_message_is_held_and_not_answered_before_an_approver_is_asked(owned: World) -> None:
    await owned.wire(await owned.chat(unknown=UnknownSender.REQUEST_APPROVAL), await owned.agent("a"))
    await owned.says("hello", "are you there?")
    await owned.route()
    [(approval, kind)] = await approvals(owned)
    assert kind == "sender"
    assert await held_texts(owned) == [("hello", approval), ("are you there?", approval)]
    assert await host_messages(owned) == []
    assert set(owned.asked) == {approval}
    assert (owned.woken, [one async for one in sessions.iter_all(owned.store.reports)]) == ([], [])
    assert await users.find(owned.store, "fake:u1") is not None


@pytest.mark.behaviour("AC-04", "RT-03")
async def test_each_of_two_agents_makes_a_request_about_the_same_unknown_sender(owned: World) -> None:
    chat = await owned.chat(unknown=UnknownSender.REQUEST_APPROVAL)
    for folder in ("a", "b"):
        await owned.wire(chat, await owned.agent(folder))
    await owned.says("hello", "are you there?")
    await owned.route()
    await owned.says("hello?")
    await owned.route()
    assert (len(await approvals(owned)), len(await held_texts(owned))) == (2, 6)


@pytest.mark.behaviour("SE-12", "RT-08")
async def test_a_command_in_a_chat_without_an_agent_is_answered_to_people_with_a_role_without_a_request(
    owned: World,
) -> None:
    await owned.grant("fake:u1", Role.MEMBER, None)
    await owned.says("/help", "/status", chat="c9")
    await owned.route()
    assert await approvals(owned) == []
    texts = [text for _, text in await host_messages(owned)]
    assert len(texts) == 2
    assert all(text.startswith(NO_AGENT_HERE) and "/link" in text and "/pause" not in text for text in texts)


@pytest.mark.behaviour("SE-12", "RT-08")
async def test_a_command_in_a_group_without_an_agent_is_answered_only_to_people_with_a_role(owned: World) -> None:
    await owned.says("/status", chat="g9", sender="boss", is_group=True, mentions=True)
    await owned.says("/status", chat="g8", sender="u1", is_group=True, mentions=True)
    await owned.route()
    [(chat, text)] = await host_messages(owned)
    assert chat == "g9"
    assert text.startswith(NO_AGENT_HERE)
    assert len(await approvals(owned)) == 1, "about the stranger's group"


@pytest.mark.behaviour("RT-08")
async def test_an_unknown_senders_command_in_a_chat_without_an_agent_makes_a_request(owned: World) -> None:
    await owned.says("/help", chat="c9")
    await owned.route()
    assert len(await approvals(owned)) == 1
    assert await host_messages(owned) == []


@pytest.mark.behaviour("AC-04")
async def test_an_unknown_sender_in_a_group_gets_no_reply(owned: World) -> None:
    chat = await owned.chat(is_group=True, unknown=UnknownSender.REQUEST_APPROVAL)
    await owned.wire(chat, await owned.agent("a"))
    await owned.says("hello", is_group=True)
    await owned.route()
    assert len(await approvals(owned)) == 1
    assert await host_messages(owned) == []


@pytest.mark.behaviour("RT-07", "AC-04")
async def test_no_request_is_made_about_messages_that_no_agent_engages_with(owned: World) -> None:
    chat = await owned.chat(is_group=True, unknown=UnknownSender.REQUEST_APPROVAL)
    await owned.wire(chat, await owned.agent("a"), engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE)
    await owned.wire(chat, await owned.agent("b"), pattern="^b")
    await owned.says("chatter", is_group=True)
    await owned.says("👍", is_group=True, mentions=True, kind=EventKind.REACTION)
    await owned.route()
    assert (await approvals(owned), [one async for one in sessions.iter_all(owned.store.reports)]) == ([], [])


@pytest.mark.behaviour("RT-03", "AC-04")
async def test_each_agent_makes_its_own_request_and_a_member_of_one_is_heard_by_it(owned: World) -> None:
    chat, a = await owned.chat(unknown=UnknownSender.REQUEST_APPROVAL), await owned.agent("a")
    await owned.wire(chat, a)
    await owned.wire(chat, await owned.agent("b"))
    await owned.grant("fake:u1", Role.MEMBER, a)
    await owned.says("hello")
    await owned.route()
    assert await owned.mailbox("a") == ["hello"]
    assert [outcome for _, outcome in await owned.outcomes()] == ["written", "held"]
    assert len(await approvals(owned)) == 1


@pytest.mark.behaviour("AP-10", "RT-10")
async def test_ten_messages_of_an_unknown_sender_are_held_and_the_rest_are_counted_as_dropped(owned: World) -> None:
    await owned.wire(await owned.chat(unknown=UnknownSender.REQUEST_APPROVAL), await owned.agent("a"))
    await owned.says(*(str(number) for number in range(30)))
    await owned.route()
    assert [text for text, _ in await held_texts(owned)] == [str(number) for number in range(10)]
    assert len(await approvals(owned)) == 1
    assert sum((await counts(owned)).values()) == 20


@pytest.mark.behaviour("AC-04", "IN-03")
async def test_a_crash_before_the_record_makes_no_request_and_the_retry_makes_one(owned: World) -> None:
    await owned.wire(await owned.chat(unknown=UnknownSender.REQUEST_APPROVAL), await owned.agent("a"))
    await owned.says("hello")
    await crash(owned)
    assert (await approvals(owned), await host_messages(owned)) == ([], [])
    await owned.route()
    assert (len(await approvals(owned)), len(await held_texts(owned)), len(await host_messages(owned))) == (1, 1, 0)


@pytest.mark.behaviour("AC-04")
async def test_a_sender_approved_while_their_message_is_routed_is_heard_without_a_request(owned: World) -> None:
    agent = await owned.agent("a")
    await owned.wire(await owned.chat(unknown=UnknownSender.REQUEST_APPROVAL), agent)
    await owned.says("hello")
    granted: list[bool] = []

    class LetsIn(RouteWriter):
        async def record(self, *rest: Any) -> set[EventId]:
            if not granted:
                granted.append(True)
                await owned.grant("fake:u1", Role.MEMBER, agent)
            return await super().record(*rest)

    async with owned.router(LetsIn).opened():
        await owned.until(owned.nothing_new)
    assert await owned.mailbox("a") == ["hello"]
    assert await approvals(owned) == []
    assert await owned.outcomes() == [("hello", "written")]


@pytest.mark.behaviour("AC-04", "IN-07")
@pytest.mark.parametrize("heard_late", [False, True])
async def test_held_messages_are_written_in_order_when_the_sender_is_approved(owned: World, heard_late: bool) -> None:
    agent = await owned.agent("a")
    [wiring] = [await owned.wire(await owned.chat(unknown=UnknownSender.REQUEST_APPROVAL), agent)]
    await owned.says("one", "two")
    await owned.route()
    [(approval, _)] = await approvals(owned)
    async with owned.routing():
        async with owned.store.transaction() as tx:
            session = await sessions.add(
                tx,
                agent_group=agent.id,
                messaging_group=(await wirings.list_all(tx))[0].messaging_group_id,
                thread_id=None,
                now=NOON,
            )
            for event, _ in await routes.list_held(tx, approval):
                await routes.release_held(tx, event, wiring, session, now=NOON)
        await owned.grant("fake:u1", Role.MEMBER, agent)
        if not heard_late:
            owned.store.bus.publish(MailboxHasPendingRows(SessionId(session)))
        await owned.says("three")
        owned.store.bus.publish(ChatHasEvents((await events.list_chats_with_new(owned.store))[0]))
        await owned.until(owned.nothing_new)
        owned.store.bus.publish(MailboxHasPendingRows(SessionId(session)))
        await owned.until(lambda: _nothing_waits(owned))
    assert await owned.mailbox("a") == ["one", "two", "three"]
    assert set(owned.woken) == {SessionId(session)}


@pytest.mark.behaviour("AC-04")
@pytest.mark.parametrize("wired", [True, False])
async def test_a_message_held_for_days_is_not_late_when_its_sender_is_approved(owned: World, wired: bool) -> None:
    if wired:
        await owned.wire(await owned.chat(unknown=UnknownSender.REQUEST_APPROVAL), await owned.agent("a"))
    await owned.says("hello")
    await owned.route()
    [(approval, _)] = await approvals(owned)
    later = NOON + timedelta(days=2)
    async with owned.store.transaction() as tx:
        await tx.execute("UPDATE approvals SET status = 'approved', decided_at = ?", (to_text(later),))
        await events.release_held(tx, approval)
        await tx.execute("UPDATE routes SET outcome = 'waiting'")
    assert await overdue_messages.find_late_events(owned.store, before=later - timedelta(minutes=5)) == []
    assert len(await overdue_messages.find_late_events(owned.store, before=later + timedelta(minutes=5))) == 1
    if wired:
        [route] = await owned.store.fetch_all("SELECT message_id FROM routes")
        assert await overdue_messages.received_at(owned.store, route["message_id"]) == later


# --- without an approver


@pytest.mark.behaviour("RT-08", "RT-10")
@pytest.mark.parametrize("wired", [True, False])
async def test_without_an_approver_a_direct_message_is_answered_once_a_day_with_the_command_to_type(
    world: World, wired: bool
) -> None:
    if wired:
        await world.wire(await world.chat(unknown=UnknownSender.REQUEST_APPROVAL), await world.agent("a"))
    await world.says("hello", "anybody?")
    await world.route()
    sentence = NO_APPROVER_YET.format(channel="fake")
    assert "nanohost pair fake" in sentence
    assert await host_messages(world) == [("c1", sentence)]
    assert sum((await counts(world)).values()) == 2
    assert (await approvals(world), await held_texts(world)) == ([], [])
    await world.clock.advance(timedelta(days=1).total_seconds())
    await world.says("and today?")
    await world.route()
    assert await host_messages(world) == [("c1", sentence)] * 2


# --- chats without an agent


@pytest.mark.behaviour("RT-11", "RT-08")
async def test_an_edit_of_a_held_message_is_held_and_counted_with_it(owned: World) -> None:
    await owned.says("one")
    await owned.says("won", kind=EventKind.EDIT, refers_to="1")
    await owned.says("of nothing that is held", kind=EventKind.EDIT, refers_to="99")
    await owned.route()
    [(approval, _)] = await approvals(owned)
    assert await held_texts(owned) == [("one", approval), ("won", approval)]
    assert await owned.drops() == [("of nothing that is held", CHAT_UNKNOWN)]
    for _ in range(20):
        await owned.says("w on", kind=EventKind.EDIT, refers_to="1")
    await owned.route()
    assert len(await held_texts(owned)) == MAX_HELD_MESSAGES


@pytest.mark.behaviour("RT-08")
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("is_group", "mentions"), [(False, False), (True, True)])
async def test_a_direct_message_or_mention_without_an_agent_makes_a_request(
    owned: World, known: bool, is_group: bool, mentions: bool
) -> None:
    if known:
        await owned.chat(is_group=is_group, unknown=UnknownSender.REQUEST_APPROVAL)
    await owned.says("hello", "again", is_group=is_group, mentions=mentions)
    await owned.route()
    [(approval, kind)] = await approvals(owned)
    assert kind == "chat"
    assert await held_texts(owned) == [("hello", approval), ("again", approval)]
    assert await host_messages(owned) == [], "that is for who asks"
    group = await owned.store.fetch_one("SELECT unknown_sender FROM messaging_groups WHERE platform_id = 'c1'")
    assert group is not None
    assert group["unknown_sender"] == "request_approval"


@pytest.mark.behaviour("RT-08")
async def test_held_messages_of_a_chat_are_routed_in_order_when_an_agent_is_connected(owned: World) -> None:
    await owned.says("one", "two")
    await owned.route()
    [(approval, _)] = await approvals(owned)
    async with owned.store.transaction() as tx:
        await events.release_held(tx, approval)
        group = await tx.fetch_one("SELECT id FROM messaging_groups WHERE platform_id = 'c1'")
    assert group is not None
    await owned.grant("fake:u1", Role.MEMBER)
    await owned.wire(await messaging_groups.get(owned.store, group["id"]), await owned.agent("a"))
    await owned.route()
    assert await owned.mailbox("a") == ["one", "two"]


@pytest.mark.behaviour("RT-08", "RT-10")
async def test_a_strict_chat_without_an_agent_makes_no_request_about_unknown_senders(owned: World) -> None:
    await owned.chat(unknown=UnknownSender.STRICT)
    await owned.says("hello")
    await owned.route()
    assert (await approvals(owned), await host_messages(owned)) == ([], [])
    [(_, reason)] = await owned.drops()
    assert "strict" in reason


@pytest.mark.behaviour("RT-08", "RT-14")
async def test_an_edit_that_adds_a_mention_makes_a_request_and_is_delivered_as_a_message(
    owned: World,
) -> None:
    await owned.says("@bot hello", is_group=True, mentions=True, kind=EventKind.EDIT, refers_to="99")
    await owned.says("@bot hello you", is_group=True, mentions=True, kind=EventKind.EDIT, refers_to="99")
    await owned.route()
    [(approval, kind)] = await approvals(owned)
    assert kind == "chat"
    assert await held_texts(owned) == [("@bot hello", approval), ("@bot hello you", approval)]
    async with owned.store.transaction() as tx:
        await events.release_held(tx, approval)
        group = await tx.fetch_one("SELECT id FROM messaging_groups WHERE platform_id = 'c1'")
    assert group is not None
    await owned.grant("fake:u1", Role.MEMBER)
    chat = await messaging_groups.get(owned.store, group["id"])
    await owned.wire(chat, await owned.agent("a"), engage=EngageMode.MENTION, pattern="")
    await owned.route()
    assert await owned.mailbox("a") == ["@bot hello", "@bot hello you"]
    rows = await owned.mailboxes.read_inbound(await owned.session("a"), lambda box: list(box.due(NOON)))
    payloads = [decode_in(row.kind, row.content) for row in rows]
    assert [one.event for one in payloads if isinstance(one, ChatIn)] == ["message", "edit"]


@pytest.mark.behaviour("RT-08", "IN-05")
async def test_bots_edits_and_unaddressed_messages_make_no_request_about_a_chat(owned: World) -> None:
    await owned.chat()
    await owned.says("beep", sender="b", bot=True)
    await owned.says("chatter", is_group=True)
    await owned.says("edited", kind=EventKind.EDIT)
    await owned.route()
    assert await approvals(owned) == []
    assert [reason for _, reason in await owned.drops()] == [SENT_BY_BOT, CHAT_UNWIRED, CHAT_UNWIRED]
