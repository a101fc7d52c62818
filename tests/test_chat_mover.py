"""A chat whose platform id changes: everything that belongs to it moves, once, however often the move is reported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nanohost.channel_api import EventKind
from nanohost.chat_mover import ChatMover
from nanohost.db import agent_groups, audit, deliveries, messaging_groups, moved_chats, sessions, wirings
from nanohost.db.cards import button_value
from nanohost.db.deliveries import Delivery, DeliveryQueueKey, DeliveryStatus
from nanohost.db.domain_events import ChatHasEvents
from nanohost.db.events import ChatKey
from nanohost.delivery.address_book import address_book
from nanohost.delivery.kind_handlers import KindHandlers
from nanohost.delivery.outbox_cleaner import OutboxCleaner
from nanohost.model import AgentGroup, AgentGroupId, Role, SessionMode
from nanohost.testing.full_channel import FullFeatureChannel
from nanohost_protocol.payloads import CardOut, ChatOut, EditOut, encode
from nanohost_protocol.rows import ChatId
from nanohost_protocol.times import to_text
from tests.routing.test_answers import asking
from tests.routing.test_router import NOON, World
from tests.support.recorded_events import record_events

pytestmark = pytest.mark.behaviour("RT-12")

OLD, NEW = ChatKey("fake", "main", "c1"), ChatKey("fake", "main", "c9")
T = to_text(NOON)
HELLO = ChatOut(text="hello")
WAITING = f"""
INSERT INTO tasks (id, session_id, kind, content, timezone, next_due, status, misfire, channel_type, instance,
    platform_id, created_by, created_at, changed_at)
VALUES ('t1', :s, 'agent', 'x', 'UTC', '{T}', 'active', 'latest', 'fake', 'main', 'c1', 'x', '{T}', '{T}');
INSERT INTO approvals (id, kind, subject, rendered_text, options, payload, requested_by, channel_type, instance,
    platform_id, created_at, expires_at, digest)
VALUES ('p1', 'chat', 'fake:main:c1', '', '[]', '{{}}', 'x', 'fake', 'main', 'c1', '{T}', '{T}', '');
INSERT INTO actions (session_id, seq, out_id, name, arguments, channel_type, instance, platform_id, requested_at,
    status, created_at, approval_id)
VALUES (:s, 5, 'a5', 'tasks.list', '{{}}', 'fake', 'main', 'c1', '{T}', 'pending', '{T}', NULL),
    (:s, 7, 'a7', 'tasks.list', '{{}}', 'fake', 'main', 'c1', '{T}', 'held', '{T}', 'p1');
INSERT INTO rules (kind, effect, subject, created_by, created_at)
VALUES ('destinations.add', 'allow', 'fake:main:c1', 'x', '{T}'), ('sender', 'allow', 'fake:main:c1', 'x', '{T}');
INSERT INTO paused (singleton, created_by, created_at, interrupted_turns, channel_type, instance, platform_id)
VALUES (1, 'x', '{T}', '', 'fake', 'main', 'c1');
INSERT INTO destinations (agent_group_id, name, messaging_group_id, created_by, created_at)
VALUES (1, 'club', 1, 'x', '{T}');
"""
"""Everything that can wait for a chat besides a message and a question."""
PLACES = {
    "tasks": "SELECT platform_id AS place FROM tasks",
    "approvals": "SELECT platform_id || ' ' || subject AS place FROM approvals",
    "requests": "SELECT platform_id AS place FROM actions ORDER BY seq",
    "rules": "SELECT subject AS place FROM rules ORDER BY id",
    "pause": "SELECT platform_id AS place FROM paused",
    "questions": "SELECT platform_id AS place FROM questions",
    "messages": "SELECT platform_id || ' ' || ifnull(reply_to, '-') AS place FROM deliveries ORDER BY seq",
}


@asynccontextmanager
async def talking(folder: Path) -> AsyncIterator[World]:
    """A chat in which an agent has asked a question, with every kind of row waiting for it."""
    async with asking(folder) as world:
        session = await world.session("a")
        async with world.store.transaction() as tx:
            for statement in WAITING.split(";")[:-1]:
                await tx.execute(statement, {"s": session.id} if ":s" in statement else {})
        await enqueue_delivery(world, 9)
        yield world


async def enqueue_delivery(world: World, seq: int, content: ChatOut | CardOut | EditOut = HELLO) -> None:
    """Enqueue a delivery to the old chat."""
    session = await world.session("a")
    async with world.store.transaction() as tx:
        await deliveries.add(
            tx,
            Delivery(
                queue=DeliveryQueueKey(session.id, OLD.channel_type, OLD.instance, OLD.platform_id),
                seq=seq,
                out_id=f"o{seq}",
                kind={ChatOut: "chat", CardOut: "card", EditOut: "edit"}[type(content)],
                thread_id=None,
                reply_to="41",
                content=encode(content),
                status=DeliveryStatus.PENDING,
                created_at=NOON,
            ),
        )


def moving(world: World, told: list[AgentGroupId] | None = None) -> ChatMover:
    """`told` collects the agents that are told of the move."""

    async def tell(agent: AgentGroupId) -> None:
        if told is not None:
            told.append(agent)

    return ChatMover(store=world.store, clock=world.clock, zone=UTC, notify_agents=tell)


async def places(world: World) -> dict[str, list[str]]:
    return {what: [row["place"] for row in await world.store.fetch_all(sql)] for what, sql in PLACES.items()}


async def test_everything_waiting_for_a_chat_waits_under_its_new_id(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        before = await messaging_groups.list_all(world.store)
        chats = record_events(world.store.bus, ChatHasEvents, lambda event: event.chat)
        world.answered.clear()
        await moving(world).move(OLD, "c9")
        assert await places(world) == {
            "tasks": ["c9"],
            "approvals": ["c9 fake:main:c9"],
            "requests": ["c9", "c9"],
            "rules": ["fake:main:c9", "fake:main:c1"],
            "pause": ["c9"],
            "questions": ["c9"],
            "messages": ["c1 -", "c9 -"],
        }
        after = await messaging_groups.list_all(world.store)
        assert [(one.id, one.platform_id) for one in after] == [(before[0].id, "c9")]
        session = await world.session("a")
        assert {place.platform_id for place in (await address_book(world.store, session)).by_name.values()} == {"c9"}
    assert (chats, [lane.chat for lane in world.answered]) == ([OLD, NEW], [NEW])


async def test_a_move_is_recorded_once_however_often_it_is_reported(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        for _ in range(3):
            await moving(world).move(OLD, "c9")
        [entry] = await audit.latest(world.store.reports, limit=9, action="chats.moved")
    assert (entry.actor, entry.target) == ("host", "fake:main:c9")
    assert entry.details == {
        "from": "fake:main:c1",
        "moved": {
            "approvals": 1,
            "approvals about it": 1,
            "deliveries": 1,
            "held requests": 1,
            "pauses": 1,
            "questions": 1,
            "requests": 1,
            "rules": 1,
            "tasks": 1,
        },
    }


async def test_a_move_of_an_unknown_chat_is_not_recorded(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        await moving(world).move(ChatKey("fake", "main", "c7"), "c8")
        assert await world.store.fetch_all("SELECT * FROM moved_chats") == []
        assert await audit.latest(world.store.reports, limit=9, action="chats.moved") == []


async def test_a_move_is_atomic(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        async with world.store.transaction() as tx:
            await tx.execute("CREATE TRIGGER full BEFORE UPDATE ON rules BEGIN SELECT RAISE(ABORT, 'full'); END")
        before = await places(world)
        with pytest.raises(Exception, match="full"):
            await moving(world).move(OLD, "c9")
        assert await places(world) == before
        assert await moved_chats.current_chat(world.store, OLD) == OLD
        assert [chat.platform_id for chat in await messaging_groups.list_all(world.store)] == ["c1"]


async def test_later_events_under_the_old_id_belong_to_the_same_session(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        await moving(world).move(OLD, "c9")
        async with world.store.transaction() as tx:
            await tx.execute("DELETE FROM paused")
        await world.says("late", chat="c1")
        await world.says("new", chat="c9")
        await world.route()
        assert await world.mailbox("a") == ["ask me", "late", "new"]
        assert (await wirings.find_listeners(world.store, OLD)).can_hear_people


async def test_later_messages_to_the_old_id_go_to_the_new_one_without_a_reply(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        await moving(world).move(OLD, "c9")
        await enqueue_delivery(world, 11)
        assert (await places(world))["messages"] == ["c1 -", "c9 -", "c9 -"]


async def test_a_button_from_before_the_move_can_be_pressed_in_the_new_chat(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        await enqueue_delivery(world, 9, content=CardOut(title="Which?", body="", options=("Red", "Blue")))
        async with world.store.transaction() as tx:
            await tx.execute("UPDATE deliveries SET status = 'sent'")
        await moving(world).move(OLD, "c9")
        session = await world.session("a")
        for out_id in ("q1", "o9"):
            await world.says("Red", chat="c9", kind=EventKind.CLICK, value=button_value(session.id, out_id, 1))
        await world.route()
        assert await world.mailbox("a") == ["ask me", "Red", "Red"]


async def test_a_message_from_before_the_move_is_not_edited_in_the_new_chat(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        await enqueue_delivery(world, 9, content=EditOut(message=1, text="changed"))
        kinds, able = KindHandlers(world.store, world.mailboxes, OutboxCleaner(world.clock)), FullFeatureChannel()
        session = await world.session("a")
        before = await deliveries.find(world.store, session.id, 9)
        assert before is not None
        assert await kinds.skip_reason(before, able) is None
        await moving(world).move(OLD, "c9")
        after = await deliveries.find(world.store, session.id, 9)
        assert after is not None
        assert (
            await kinds.skip_reason(after, able)
            == "the message that it is about was not sent, or is not known any more"
        )


async def test_a_chat_that_moves_twice_is_found_under_each_of_its_ids(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        await moving(world).move(OLD, "c9")
        await moving(world).move(NEW, "c10")
        for chat in (OLD, NEW):
            assert (await moved_chats.current_chat(world.store, chat)).platform_id == "c10"
            found = await messaging_groups.find_by_chat(world.store, chat)
            assert found is not None
            assert found.platform_id == "c10"


async def test_a_move_to_the_same_id_is_ignored(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        before = await places(world)
        with capture_logs() as lines:
            await moving(world).move(OLD, OLD.platform_id)
        assert lines == []
        assert await places(world) == before


@pytest.mark.parametrize(("old", "to"), [(NEW, "c1"), (ChatKey("fake", "main", "c0"), "c1")])
async def test_a_chat_does_not_move_back_or_to_an_id_that_another_has_left(
    old: ChatKey, to: str, tmp_path: Path
) -> None:
    async with talking(tmp_path) as world:
        await moving(world).move(OLD, "c9")
        before = await places(world)
        with capture_logs() as lines:
            await moving(world).move(old, to)
        assert [line["event"] for line in lines] == ["chat_move_rejected"]
        assert await places(world) == before
        assert await moved_chats.current_chat(world.store, OLD) == NEW


async def test_an_unconfigured_new_chat_takes_everything_of_the_old_one(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        met = await world.chat("c9")
        async with world.store.transaction() as tx:
            await tx.execute("UPDATE destinations SET messaging_group_id = ?", (met.id,))
        await moving(world).move(OLD, "c9")
        [group] = await messaging_groups.list_all(world.store)
        [name] = await world.store.fetch_all("SELECT messaging_group_id FROM destinations")
        assert (group.platform_id, name["messaging_group_id"]) == ("c9", group.id)
        assert len(await wirings.list_for_chat(world.store, group.id)) == 1


async def test_a_configured_new_chat_keeps_its_settings_and_gets_the_rest_added(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        old = await messaging_groups.find_by_chat(world.store, OLD)
        assert old is not None
        new, other = await world.chat("c9"), await world.agent("b")
        await world.wire(new, await agent(world), mode=SessionMode.SHARED, priority=5)
        await world.wire(old, other)
        await moving(world).move(OLD, "c9")
        wired = await wirings.list_for_chat(world.store, new.id)
        assert [(one.agent_group_id, one.priority) for one in wired] == [(other.id, 0), (1, 5)]
        session = await world.session("a")
        assert session.messaging_group_id == new.id
        assert await messaging_groups.find_by_chat(world.store, OLD) == new


async def test_the_old_chat_is_deleted_when_everything_moved_to_a_configured_one(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        await world.wire(await world.chat("c9"), await world.agent("b"))
        await moving(world).move(OLD, "c9")
        assert [chat.platform_id for chat in await messaging_groups.list_all(world.store)] == ["c9"]


async def test_a_session_whose_place_is_taken_still_sends_to_the_new_chat(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        old, new = await world.session("a"), await world.chat("c9")
        await world.wire(new, await agent(world))
        async with world.store.transaction() as tx:
            await sessions.add(tx, agent_group=old.agent_group_id, messaging_group=new.id, thread_id=None, now=NOON)
        await moving(world).move(OLD, "c9")
        kept = await sessions.get(world.store, old.id)
        book = await address_book(world.store, kept)
        assert book.default is not None
        assert book.default.chat == ChatId("fake", "main", "c9")


async def test_the_first_message_in_a_new_chat_that_waits_for_a_connection_is_answered(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        await world.grant("fake:owner", Role.OWNER)
        await world.says("I am first", chat="c9", mentions=True, is_group=True)
        await world.route()
        assert await world.mailbox("a") == ["ask me"]
        await moving(world).move(OLD, "c9")
        await world.route()
        assert await world.mailbox("a") == ["ask me", "I am first"]
        [approval] = await world.store.fetch_all("SELECT status, reason FROM approvals")
        assert tuple(approval) == ("withdrawn", "an agent listens there now")
        assert [chat.platform_id for chat in await messaging_groups.list_all(world.store)] == ["c9"]


async def test_agents_with_the_chat_as_a_destination_are_told(tmp_path: Path) -> None:
    async with talking(tmp_path) as world:
        told: list[AgentGroupId] = []
        for _ in range(2):
            await moving(world, told).move(OLD, "c9")
        assert told == [1]


async def agent(world: World) -> AgentGroup:
    found = await agent_groups.find(world.store, "a")
    assert found is not None
    return found
