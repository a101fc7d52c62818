"""An accepted event is on disk when `accept` returns, once, in a form that can be read again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from nanohost.channel_api import Attachment, Capabilities, EventKind, InboundEvent, Part, PartKind, Sender
from nanohost.db import agent_groups, album_parts, cards, dropped, events, host_messages, messaging_groups, wirings
from nanohost.db.database import Store, Transaction, open_store
from nanohost.db.domain_events import ChatHasEvents
from nanohost.db.events import ChatKey
from nanohost.errors import StoreError
from nanohost.inbox.inbox import BATCH_SIZE, ChannelInbox
from nanohost.inbox.sanitize import EMPTY_MESSAGE, MAX_ATTACHMENTS, MAX_NAME_CHARS, MAX_PARTS, MAX_TEXT_CHARS
from nanohost.model import HOST_SESSION_ID, EngageMode, SessionMode, UnknownSender, WiringId
from nanohost.routing.inbound_message import build_message
from nanohost.testing.manual_clock import ManualClock
from nanohost_protocol.payloads import MAX_CONTENT_BYTES, CardOut, ChatIn, decode_in
from nanohost_protocol.rows import Origin
from nanohost_protocol.times import to_text
from tests.support.recorded_events import record_events
from tests.support.template_home import make_database

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
CHAT = ChatKey("fake", "main", "c1")
EVENT = InboundEvent(
    platform_id="c1", platform_message_id="1", sender=Sender(handle="u1", name="Ada"), text="hello", sent_at=NOON
)

MakeInbox = Callable[..., ChannelInbox]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "nanohost.db"
    make_database(path)
    return path


@pytest.fixture
async def store(database: Path) -> AsyncIterator[Store]:
    async with open_store(database, durable=False) as opened:
        for instance, chat in (("main", "c1"), ("main", "c2"), ("other", "c1"), ("another", "c1")):
            await wire(opened, instance, chat)
        yield opened


async def wire(store: Store, instance: str, chat: str, *, bots: bool = False) -> None:
    """Wire an agent to a chat."""
    async with store.transaction() as tx:
        agent = await agent_groups.find(tx, "a") or await agent_groups.add(
            tx, folder="a", name="a", provider=None, model=None, now=NOON
        )
        group = await messaging_groups.add(
            tx,
            channel_type="fake",
            instance=instance,
            platform_id=chat,
            is_group=True,
            name=chat,
            unknown_sender=UnknownSender.PUBLIC,
            now=NOON,
        )
        await wirings.add(
            tx,
            messaging_group=group.id,
            agent_group=agent.id,
            engage_mode=EngageMode.MENTION,
            engage_pattern="",
            session_mode=SessionMode.SHARED,
            priority=0,
            now=NOON,
            bots=bots,
        )


@pytest.fixture
def told(store: Store) -> list[ChatKey]:
    return record_events(store.bus, ChatHasEvents, lambda event: event.chat)


@pytest.fixture
def make_inbox(store: Store, told: list[ChatKey]) -> MakeInbox:
    def make(instance: str = "main", *, threads: bool = True) -> ChannelInbox:
        return ChannelInbox(
            channel_type="fake",
            instance=instance,
            capabilities=Capabilities(threads=threads),
            store=store,
            clock=ManualClock(),
        )

    return make


@pytest.fixture
def inbox(make_inbox: MakeInbox) -> ChannelInbox:
    return make_inbox()


async def stored_event(store: Store) -> InboundEvent:
    (stored,) = await events.list_new(store, CHAT, limit=9)
    return stored.event


async def drops(store: Store) -> list[tuple[str, str]]:
    rows = await store.fetch_all("SELECT platform_id, reason FROM inbound_events WHERE status = 'dropped' ORDER BY id")
    return [(row["platform_id"], row["reason"]) for row in rows]


@pytest.mark.behaviour("IN-01")
async def test_an_accepted_event_is_visible_to_other_connections(inbox: ChannelInbox, database: Path) -> None:
    accepted = await inbox.accept(EVENT)
    assert accepted.new
    with closing(sqlite3.connect(database)) as other:
        rows = other.execute("SELECT platform_message_id, text, status FROM inbound_events").fetchall()
    assert rows == [("1", "hello", "new")]


@pytest.mark.behaviour("IN-01")
async def test_an_event_that_cannot_be_stored_is_not_accepted(
    inbox: ChannelInbox, store: Store, told: list[ChatKey]
) -> None:
    await store.drain()
    with pytest.raises(StoreError):
        await inbox.accept(EVENT)
    assert told == []


@pytest.mark.behaviour("IN-02")
async def test_a_repeated_event_is_accepted_and_changes_nothing(
    inbox: ChannelInbox, store: Store, told: list[ChatKey]
) -> None:
    results = [await inbox.accept(EVENT), await inbox.accept(EVENT), await inbox.accept(replace(EVENT, text="new"))]
    assert [result.new for result in results] == [True, False, False]
    assert (await stored_event(store)).text == "hello"
    assert set(told) == {CHAT}


@pytest.mark.behaviour("IN-02", "IN-03")
async def test_a_repeat_is_routed_if_its_first_delivery_was_interrupted_before(
    inbox: ChannelInbox, store: Store, told: list[ChatKey]
) -> None:
    """A closed connection cancels the wait for the commit; the platform, without an acknowledgement, sends again."""
    async with store.transaction() as tx:
        await events.add(tx, CHAT, EVENT, now=NOON)
    told.clear()
    assert not (await inbox.accept(EVENT)).new
    assert told == [CHAT]


@pytest.mark.behaviour("IN-02")
async def test_each_part_of_an_events_identity_distinguishes_it(make_inbox: MakeInbox) -> None:
    main, other = make_inbox(), make_inbox("other")
    different = [
        (main, EVENT),
        (other, EVENT),
        (main, replace(EVENT, platform_id="c2")),
        (main, replace(EVENT, platform_message_id="2")),
        (main, replace(EVENT, kind=EventKind.EDIT)),
        (main, replace(EVENT, kind=EventKind.REACTION)),
    ]
    assert [(await inbox.accept(event)).new for inbox, event in different] == [True] * 6


async def test_every_field_is_read_back(inbox: ChannelInbox, store: Store) -> None:
    event = replace(
        EVENT, kind=EventKind.EDIT, thread_id="7", is_group=True, mentions_bot=True, refers_to="0", chat_name="Chat"
    )
    await inbox.accept(event)
    assert await stored_event(store) == event


@pytest.mark.behaviour("RT-01")
async def test_a_thread_id_is_dropped_on_a_channel_without_threads(make_inbox: MakeInbox, store: Store) -> None:
    await make_inbox(threads=False).accept(replace(EVENT, thread_id="7"))
    assert (await stored_event(store)).thread_id is None


@pytest.mark.behaviour("IN-05")
@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        (Sender(handle="me", name="Nan", is_bot=True, is_self=True), "it is our own message"),
        (Sender(handle="me", name="Nan", is_self=True), "it is our own message"),
        (Sender(handle="b", name="Bot", is_bot=True), "another bot wrote it"),
    ],
)
async def test_events_of_bots_are_recorded_and_not_routed(
    inbox: ChannelInbox, store: Store, told: list[ChatKey], sender: Sender, reason: str
) -> None:
    event = replace(EVENT, sender=sender)
    assert (await inbox.accept(event)).new
    assert not (await inbox.accept(event)).new
    assert await drops(store) == [("c1", reason)]
    assert (await events.list_chats_with_new(store), told) == ([], [])


# --- text


@pytest.mark.parametrize("text", ["a\x07\x1b[31mb\t", "‮abc", "🌍" * 1000, "é\u0301", "'; DROP TABLE x"])
async def test_text_is_stored_unchanged(inbox: ChannelInbox, store: Store, text: str) -> None:
    await inbox.accept(replace(EVENT, text=text))
    assert (await stored_event(store)).text == text


@pytest.mark.parametrize(("text", "stored"), [("a\x00b", "ab"), ("\ud83d alone", "? alone")])
async def test_characters_that_cannot_be_stored_are_replaced(
    inbox: ChannelInbox, store: Store, text: str, stored: str
) -> None:
    name = Sender(handle="u1", name=text)
    await inbox.accept(replace(EVENT, text=text, sender=name, chat_name=text))
    event = await stored_event(store)
    assert (event.text, event.sender.name, event.chat_name) == (stored, stored, stored)


@pytest.mark.parametrize("character", ["a", "é", "\x01", "🌍", '"'])
async def test_an_oversized_text_is_truncated_with_a_note_and_fits_into_a_mailbox(
    inbox: ChannelInbox, store: Store, character: str
) -> None:
    await inbox.accept(replace(EVENT, text=character * 1024 * 1024))
    (stored,) = await events.list_new(store, CHAT, limit=9)
    text = stored.event.text
    assert text.startswith(character * MAX_TEXT_CHARS)
    assert text.endswith(f"[cut: {1024 * 1024 - MAX_TEXT_CHARS} more characters]")
    message = build_message(stored, WiringId(1))
    payload = decode_in(message.kind, message.content)
    assert isinstance(payload, ChatIn)
    assert payload.text == text


async def test_long_names_are_truncated(inbox: ChannelInbox, store: Store) -> None:
    await inbox.accept(replace(EVENT, sender=Sender(handle="u1", name="n" * 5000), chat_name="c" * 5000))
    event = await stored_event(store)
    assert (len(event.sender.name), len(event.chat_name)) == (MAX_NAME_CHARS, MAX_NAME_CHARS)


async def test_a_truncated_file_name_keeps_its_extension(inbox: ChannelInbox, store: Store) -> None:
    await inbox.accept(replace(EVENT, attachments=(Attachment(ref="f", name="n" * 5000 + ".tar.gz"),)))
    [file] = (await stored_event(store)).attachments
    assert (len(file.name), file.name[-9:]) == (MAX_NAME_CHARS, "nn.tar.gz")


async def test_a_name_that_is_not_text_is_stored_as_empty(inbox: ChannelInbox, store: Store) -> None:
    await inbox.accept(replace(EVENT, sender=Sender(handle="u1", name=None), chat_name=7))  # type: ignore[arg-type]
    event = await stored_event(store)
    assert (event.sender.name, event.chat_name) == ("", "")


# --- unusable events

BROKEN: list[dict[str, object]] = [
    {"platform_id": ""},
    {"platform_id": None},
    {"platform_id": 7},
    {"platform_id": "\ud800"},
    {"platform_message_id": ""},
    {"platform_message_id": None},
    {"platform_message_id": 7},
    {"platform_message_id": "\ud800"},
    {"sender": None},
    {"sender": "Ada"},
    {"sender": Sender(handle=None, name="Ada")},  # type: ignore[arg-type]
    {"sender": Sender(handle=7, name="Ada")},  # type: ignore[arg-type]
    {"sender": Sender(handle="\ud800", name="Ada")},
    {"sender": Sender(handle="", name="Ada")},
    {"sender": Sender(handle="u1", name="Ada", is_bot="no")},  # type: ignore[arg-type]
    {"text": None},
    {"text": b"bytes"},
    {"text": 7},
    {"sent_at": None},
    {"sent_at": "yesterday"},
    {"sent_at": 1767355200},
    {"sent_at": datetime(2026, 1, 2)},  # noqa: DTZ001
    {"sent_at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))},
    {"kind": "poem"},
    {"kind": None},
    {"kind": ["message"]},
    {"thread_id": 7},
    {"thread_id": "\ud800"},
    {"refers_to": b"7"},
    {"is_group": "yes"},
    {"mentions_bot": None},
    {"attachments": None},
    {"attachments": "f1"},
    {"attachments": 7},
]


@pytest.mark.behaviour("IN-01", "RT-10")
@pytest.mark.parametrize("broken", BROKEN, ids=str)
async def test_an_invalid_event_is_recorded_and_not_redelivered(
    inbox: ChannelInbox, store: Store, told: list[ChatKey], broken: dict[str, object]
) -> None:
    event = replace(EVENT, **broken)  # type: ignore[arg-type]
    assert (await inbox.accept(event)).new is True
    assert (await inbox.accept(event)).new is False
    ((_, reason),) = await drops(store)
    assert reason
    assert (await events.list_chats_with_new(store), told) == ([], [])


async def test_a_kind_given_as_a_string_is_converted(inbox: ChannelInbox, store: Store) -> None:
    assert (await inbox.accept(replace(EVENT, kind="message", platform_id="unwired"))).new  # type: ignore[arg-type]
    [found] = await events.list_new(store, ChatKey("fake", "main", "unwired"), limit=9)
    assert found.event.kind is EventKind.MESSAGE


async def test_two_events_without_ids_are_two_records(inbox: ChannelInbox, store: Store) -> None:
    await inbox.accept(replace(EVENT, platform_message_id="", text="one"))
    await inbox.accept(replace(EVENT, platform_message_id="", text="two"))
    assert len(await drops(store)) == 2


async def test_an_invalid_event_does_not_block_a_valid_one(inbox: ChannelInbox, store: Store) -> None:
    await inbox.accept(replace(EVENT, platform_message_id="", sent_at=None))  # type: ignore[arg-type]
    assert (await inbox.accept(EVENT)).new
    assert await stored_event(store) == EVENT


@pytest.mark.behaviour("IN-02")
async def test_a_channel_that_catches_up_gets_its_last_position_in_each_chat(make_inbox: MakeInbox) -> None:
    inbox = make_inbox()
    for chat, number in [("c1", "1"), ("c2", "7"), ("c1", "2")]:
        await inbox.accept(replace(EVENT, platform_id=chat, platform_message_id=number))
    await inbox.accept(replace(EVENT, platform_message_id="3", kind=EventKind.EDIT))
    await make_inbox("another").accept(replace(EVENT, platform_message_id="9"))
    assert list((await inbox.latest()).items()) == [("c1", "2"), ("c2", "7")]


# --- chats without an agent

CHATTER = replace(EVENT, platform_id="elsewhere", is_group=True)
UNHEARD = [
    CHATTER,
    replace(CHATTER, sender=Sender(handle="b", name="Bot", is_bot=True)),
    replace(CHATTER, kind=EventKind.EDIT, mentions_bot=True),
    replace(CHATTER, kind=EventKind.REACTION, is_group=False),
    replace(CHATTER, kind=EventKind.CLICK, value="q:aaaaaaaaaaaaaaaaaaaa:1"),
]


async def rows(store: Store) -> int:
    found = await store.fetch_one(
        "SELECT (SELECT count(*) FROM inbound_events) + (SELECT count(*) FROM dropped_messages) AS n"
    )
    assert found is not None
    return int(found["n"])


@pytest.mark.behaviour("RT-08")
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("event", UNHEARD)
async def test_an_event_where_no_agent_listens_writes_nothing(
    make_inbox: MakeInbox, store: Store, told: list[ChatKey], event: InboundEvent, known: bool
) -> None:
    if known:
        await wire(store, "main", "elsewhere")
        async with store.transaction() as tx:
            await tx.execute("DELETE FROM wirings WHERE messaging_group_id = (SELECT max(id) FROM messaging_groups)")
    before = store._writer.total_changes
    assert not (await make_inbox().accept(event)).new
    assert (store._writer.total_changes, await rows(store), told) == (before, 0, [])


@pytest.mark.behaviour("RT-08")
async def test_an_event_where_no_agent_listens_costs_one_indexed_query(
    inbox: ChannelInbox, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for connection in (store._reader, store._writer):
        await connection.set_trace_callback(asked.append)
    for number in range(3):
        await inbox.accept(replace(CHATTER, platform_message_id=str(number)))
    assert len(asked) == 3
    plan = await store.fetch_all(
        f"EXPLAIN QUERY PLAN {wirings.LISTENERS}", {"channel_type": "", "instance": "", "platform_id": ""}
    )
    assert not [row["detail"] for row in plan if row["detail"].startswith("SCAN")]


@pytest.mark.behaviour("RT-08")
@pytest.mark.parametrize("event", [replace(CHATTER, is_group=False), replace(CHATTER, mentions_bot=True)])
async def test_an_addressed_event_is_kept_in_any_chat(
    inbox: ChannelInbox, told: list[ChatKey], event: InboundEvent
) -> None:
    assert (await inbox.accept(event)).new
    assert told == [ChatKey("fake", "main", "elsewhere")]


@pytest.mark.behaviour("RT-08", "RT-11")
@pytest.mark.parametrize("status", ["new", "held", "dropped"])
async def test_an_edit_where_no_agent_listens_is_kept_while_its_message_waits(
    inbox: ChannelInbox, store: Store, status: str
) -> None:
    await inbox.accept(replace(CHATTER, mentions_bot=True))
    async with store.transaction() as tx:
        await tx.execute("UPDATE inbound_events SET status = ?", (status,))
    edit = replace(CHATTER, platform_message_id="1:2", kind=EventKind.EDIT, refers_to="1")
    assert not (await inbox.accept(replace(edit, platform_id="another"))).new
    assert (await inbox.accept(edit)).new == (status != "dropped")


@pytest.mark.behaviour("RT-08")
async def test_an_edit_that_first_mentions_the_bot_is_kept_in_any_chat(inbox: ChannelInbox, store: Store) -> None:
    assert not (await inbox.accept(CHATTER)).new
    edit = replace(CHATTER, platform_message_id="1:2", kind=EventKind.EDIT, refers_to="1", mentions_bot=True)
    assert not (await inbox.accept(replace(edit, sender=Sender(handle="b", name="Bot", is_bot=True)))).new
    assert (await inbox.accept(edit)).new
    assert (await inbox.accept(replace(edit, platform_message_id="1:3", mentions_bot=False))).new, "the first one waits"
    async with store.transaction() as tx:
        await tx.execute("UPDATE inbound_events SET status = 'dropped'")
    assert not (await inbox.accept(replace(edit, platform_message_id="1:4"))).new, "it was decided on"


@pytest.mark.behaviour("RT-08", "RT-11")
async def test_an_edit_together_with_its_message_is_kept(inbox: ChannelInbox, store: Store) -> None:
    said = replace(CHATTER, mentions_bot=True)
    edit = replace(CHATTER, platform_message_id="1:2", kind=EventKind.EDIT, refers_to="1")
    accepted = await asyncio.gather(
        inbox.accept(replace(said, platform_message_id="0")), *map(inbox.accept, (said, edit))
    )
    assert [one.new for one in accepted] == [True, True, True]


@pytest.mark.behaviour("RT-08", "RT-11")
@pytest.mark.parametrize("piece", ["1", "2"])
@pytest.mark.parametrize("named", ["1", "2"])
async def test_where_no_agent_listens_an_edit_of_any_part_is_an_edit_of_the_album(
    inbox: ChannelInbox, store: Store, piece: str, named: str
) -> None:
    for id in ("1", "2"):
        await inbox.accept(replace(CHATTER, platform_message_id=id, mentions_bot=True, album="g"))
    said = await events.list_new(store, ChatKey("fake", "main", CHATTER.platform_id), limit=9)
    async with store.transaction() as tx:
        await album_parts.add_all(tx, [(one.id, one.event) for one in said])
        await events.join_album(tx, [one.id for one in said], replace(said[0].event, album=None))
        await tx.execute("UPDATE inbound_events SET mentions_bot = 0")
    naming = replace(CHATTER, kind=EventKind.EDIT, platform_message_id="n", refers_to=named, mentions_bot=True)
    assert (await inbox.accept(naming)).new, "the album waits"
    async with store.transaction() as tx:
        await tx.execute(
            "UPDATE inbound_events SET status = iif(event_kind = 'edit', 'held', 'routed'), approval_id = 'a'"
        )
    assert (await inbox.accept(replace(naming, platform_message_id="w", refers_to=piece, mentions_bot=False))).new
    async with store.transaction() as tx:
        await tx.execute("UPDATE inbound_events SET status = 'dropped'")
    assert not (await inbox.accept(replace(naming, platform_message_id="l", refers_to=piece))).new, "it was decided on"


GONE = replace(EVENT, kind=EventKind.DELETION, refers_to="1", text="", sender=Sender(handle="", name=""))
"""A platform need not say who deleted it."""


@pytest.mark.behaviour("RT-14")
async def test_a_deletion_of_an_unknown_message_is_not_kept(
    inbox: ChannelInbox, store: Store, told: list[ChatKey]
) -> None:
    assert not (await inbox.accept(GONE)).new
    assert not (await inbox.accept(replace(GONE, refers_to=None))).new
    await inbox.accept(replace(EVENT, platform_id="c2"))
    told.clear()
    assert not (await inbox.accept(GONE)).new, "it is another chat's"
    assert (await rows(store), told) == (1, [])


@pytest.mark.behaviour("RT-14")
@pytest.mark.parametrize("by", [GONE.sender, EVENT.sender, Sender(handle="b", name="Moderator", is_bot=True)])
async def test_a_deletion_of_a_waiting_message_is_kept_whoever_made_it_and_not_counted(
    inbox: ChannelInbox, store: Store, by: Sender
) -> None:
    await inbox.accept(EVENT)
    assert (await inbox.accept(replace(GONE, sender=by))).new
    assert not (await inbox.accept(replace(GONE, sender=by))).new
    assert [one.event.kind for one in await events.list_new(store, CHAT, limit=9)] == ["message", "deletion"]
    assert await dropped.latest(store.reports, limit=9) == []


@pytest.mark.behaviour("RT-14")
async def test_a_deletion_together_with_its_message_is_kept_where_no_agent_listens(
    inbox: ChannelInbox,
) -> None:
    said, gone = replace(CHATTER, mentions_bot=True), replace(GONE, platform_id="elsewhere")
    accepted = await asyncio.gather(
        inbox.accept(replace(said, platform_message_id="0")), *map(inbox.accept, (said, gone))
    )
    assert [one.new for one in accepted] == [True, True, True]


@pytest.mark.behaviour("RT-14")
@pytest.mark.parametrize("status", ["routed", "dropped"])
async def test_a_deletion_of_a_message_that_reached_nobody_is_not_kept(
    inbox: ChannelInbox, store: Store, status: str
) -> None:
    await inbox.accept(EVENT)
    async with store.transaction() as tx:
        await tx.execute("UPDATE inbound_events SET status = ?", (status,))
    assert not (await inbox.accept(GONE)).new


@pytest.mark.behaviour("RT-08")
async def test_a_press_on_a_host_card_needs_no_agent_and_is_dropped_in_another_chat(
    inbox: ChannelInbox, store: Store, told: list[ChatKey]
) -> None:
    place = Origin(channel_type="fake", instance="main", platform_id="dm")
    async with store.transaction() as tx:
        await host_messages.enqueue(tx, place, CardOut(title="?", body="", options=("yes",)), out_id="h1", now=NOON)
    press = replace(CHATTER, platform_id="dm", kind=EventKind.CLICK, value=cards.button_value(HOST_SESSION_ID, "h1", 1))
    assert not (await inbox.accept(replace(press, platform_id="elsewhere"))).new
    assert (await inbox.accept(press)).new
    assert told == [ChatKey("fake", "main", "dm")]


@pytest.mark.behaviour("IN-05")
async def test_other_bots_are_accepted_where_a_wiring_allows_them_and_the_bot_itself_never(
    inbox: ChannelInbox, store: Store, told: list[ChatKey]
) -> None:
    await wire(store, "main", "bots", bots=True)
    bot = replace(EVENT, platform_id="bots", sender=Sender(handle="b", name="Bot", is_bot=True), is_group=True)
    await inbox.accept(bot)
    await inbox.accept(replace(bot, platform_message_id="2", sender=replace(bot.sender, is_self=True)))
    assert told == [ChatKey("fake", "main", "bots")]
    assert await drops(store) == [("bots", "it is our own message")]


@pytest.mark.behaviour("RT-10")
async def test_immediately_dropped_events_are_counted_by_sender_chat_and_reason(
    inbox: ChannelInbox, store: Store
) -> None:
    for number in range(3):
        await inbox.accept(
            replace(EVENT, platform_message_id=str(number), sender=Sender(handle="b", name="", is_bot=True))
        )
    [counted] = await dropped.latest(store.reports, limit=9)
    assert (counted.chat, counted.user_id, counted.reason, counted.count) == (CHAT, "fake:b", "another bot wrote it", 3)


async def test_an_event_waits_for_a_few_events_of_a_flooded_chat_and_not_for_all(
    store: Store, make_inbox: MakeInbox
) -> None:
    inbox = make_inbox()
    flood = [
        asyncio.ensure_future(inbox.accept(replace(EVENT, platform_message_id=f"flood {number}")))
        for number in range(500)
    ]
    await asyncio.sleep(0)  # all of them are under way
    await inbox.accept(replace(EVENT, platform_id="c2"))
    before = sum(one.done() for one in flood)
    assert before <= 2 * BATCH_SIZE, f"{before} events of another chat came first"
    await asyncio.gather(*flood)
    assert [one.event.platform_message_id for one in await events.list_new(store, CHAT, limit=500)] == [
        f"flood {number}" for number in range(500)
    ]


@pytest.mark.behaviour("IN-01", "IN-02")
async def test_events_in_one_batch_are_each_accepted_as_what_they_are(inbox: ChannelInbox, store: Store) -> None:
    robot = replace(EVENT, platform_message_id="3", sender=Sender(handle="b", name="", is_bot=True))
    accepted = await asyncio.gather(
        *map(inbox.accept, (EVENT, replace(EVENT, platform_message_id="2"), robot, EVENT, replace(EVENT, text="more")))
    )
    assert [one.new for one in accepted] == [True, True, True, False, False]
    assert [one.event.platform_message_id for one in await events.list_new(store, CHAT, limit=9)] == ["1", "2"]
    [counted] = await dropped.latest(store.reports, limit=9)
    assert (counted.user_id, counted.count) == ("fake:b", 1)


@pytest.mark.behaviour("IN-01")
async def test_an_event_batched_with_a_failing_one_is_kept(
    inbox: ChannelInbox, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = events.add

    async def refuses_one(tx: Transaction, chat: ChatKey, event: InboundEvent, **how: Any) -> bool:
        if event.platform_message_id == "bad":
            raise RuntimeError("cannot be written")
        return await put(tx, chat, event, **how)

    monkeypatch.setattr(events, "add", refuses_one)
    names = ("1", "2", "bad", "4")
    results = await asyncio.gather(
        *(inbox.accept(replace(EVENT, platform_message_id=name)) for name in names), return_exceptions=True
    )
    assert [isinstance(one, RuntimeError) for one in results] == [False, False, True, False]
    assert [one.event.platform_message_id for one in await events.list_new(store, CHAT, limit=9)] == ["1", "2", "4"]


@pytest.mark.behaviour("IN-01")
async def test_a_channel_cancelled_during_accept_does_not_affect_other_events(
    inbox: ChannelInbox, store: Store
) -> None:
    handed_in = [
        asyncio.ensure_future(inbox.accept(replace(EVENT, platform_message_id=str(number)))) for number in range(12)
    ]
    async with store.transaction():
        await asyncio.sleep(0)  # all of them are under way, the first waits for its turn to write
        for leaving in (0, 3, 9):
            handed_in[leaving].cancel()
    results = await asyncio.gather(*handed_in, return_exceptions=True)
    stayed = [str(number) for number in range(12) if number not in {0, 3, 9}]
    assert [number for number, one in enumerate(results) if isinstance(one, asyncio.CancelledError)] == [0, 3, 9]
    kept_now = [one.event.platform_message_id for one in await events.list_new(store, CHAT, limit=20)]
    assert [name for name in kept_now if name in stayed] == stayed


@pytest.mark.parametrize("text", ["", " \n", "\x00"])
async def test_an_empty_message_wakes_nobody_and_is_recorded(
    inbox: ChannelInbox, store: Store, told: list[ChatKey], text: str
) -> None:
    assert (await inbox.accept(replace(EVENT, text=text))).new
    assert await drops(store) == [("c1", EMPTY_MESSAGE)]
    assert told == []


PARTS = (
    Part(kind=PartKind.QUOTED, text="The meeting is on Tuesday", author="Bea", marked="Tuesday"),
    Part(kind=PartKind.FORWARDED, text="Deploy failed", author="CI", chat="ops", sent_at=NOON),
    Part(kind=PartKind.SHARED, title="poll", text="Lunch? Pizza / Soup"),
    Part(kind=PartKind.LINK, text="here", url="https://example.com/a?b=1"),
)


async def test_a_message_that_consists_of_parts_reaches_the_agent_with_them(inbox: ChannelInbox, store: Store) -> None:
    await inbox.accept(replace(EVENT, text="", parts=PARTS))
    [stored] = await events.list_new(store, CHAT, limit=9)
    assert stored.event.parts == PARTS
    row = build_message(stored, WiringId(1))
    said = decode_in(row.kind, row.content)
    assert isinstance(said, ChatIn)
    assert [(one.kind, one.text, one.sent_at) for one in said.parts] == [
        (one.kind, one.text, "" if one.sent_at is None else to_text(one.sent_at)) for one in PARTS
    ]


async def test_a_row_without_parts_has_the_old_encoding(inbox: ChannelInbox, store: Store) -> None:
    await inbox.accept(EVENT)
    [stored] = await events.list_new(store, CHAT, limit=9)
    assert "parts" not in build_message(stored, WiringId(1)).content


async def test_the_row_of_an_oversized_message_fits_into_a_mailbox(inbox: ChannelInbox, store: Store) -> None:
    much = tuple(
        Part(kind=kind, text="\x01" * 200_000, marked="m" * 9_000, url="u" * 9_000, title="t" * 999)
        for kind in PartKind
        for _ in range(30)
    )
    await inbox.accept(replace(EVENT, text="\x01" * 200_000, parts=much))
    [stored] = await events.list_new(store, CHAT, limit=9)
    assert len(build_message(stored, WiringId(1)).content.encode()) < MAX_CONTENT_BYTES
    assert len(stored.event.parts) == MAX_PARTS + 1
    assert "80 more parts" in stored.event.parts[-1].text


async def test_surplus_files_are_counted_in_a_note(inbox: ChannelInbox, store: Store) -> None:
    files = tuple(Attachment(ref=str(n), name=f"{n}.jpg") for n in range(MAX_ATTACHMENTS + 5))
    await inbox.accept(replace(EVENT, attachments=files))
    [stored] = await events.list_new(store, CHAT, limit=9)
    assert len(stored.event.attachments) == MAX_ATTACHMENTS
    assert stored.event.parts[-1].text == "[cut: 5 more files of this message]"


@pytest.mark.parametrize("text", ["\u200b", "\u2800\u3164", "\u200e \u202c\n", "\ufeff\u00ad"])
async def test_an_invisible_text_wakes_nobody(inbox: ChannelInbox, store: Store, text: str) -> None:
    await inbox.accept(replace(EVENT, text=text))
    assert await events.list_new(store, CHAT, limit=9) == []
    [row] = await store.fetch_all("SELECT reason FROM inbound_events")
    assert row["reason"] == EMPTY_MESSAGE


@pytest.mark.parametrize("text", [".", "👍", "\U0001f9d1\u200d\U0001f680", "\ue000", "\U000e0fff", "⟨"])
async def test_a_text_with_something_visible_is_a_message(inbox: ChannelInbox, store: Store, text: str) -> None:
    await inbox.accept(replace(EVENT, text=text))
    [stored] = await events.list_new(store, CHAT, limit=9)
    assert stored.event.text == text


@pytest.mark.parametrize(
    "part",
    [
        None,
        Part(kind="odd", text="x"),  # type: ignore[arg-type]
        Part(kind=PartKind.LINK, text=None),  # type: ignore[arg-type]
        Part(kind=PartKind.FORWARDED, sent_at=datetime(2026, 1, 2)),  # noqa: DTZ001
    ],
)
async def test_an_event_with_invalid_parts_is_recorded_and_not_redelivered(
    inbox: ChannelInbox, store: Store, part: Any
) -> None:
    await inbox.accept(replace(EVENT, parts=(part,)))
    assert await drops(store) == [("c1", "what is said of its parts makes no sense")]


async def test_each_instance_has_one_checkpoint(make_inbox: MakeInbox) -> None:
    here, there = make_inbox(), make_inbox(instance="other")
    assert await here.checkpoint() is None
    await here.save_checkpoint("at 7")
    await here.save_checkpoint("at 8")
    await there.save_checkpoint("at 1")
    with pytest.raises(ValueError, match="4000 characters at most"):
        await here.save_checkpoint("x" * 4_001)
    assert (await here.checkpoint(), await there.checkpoint()) == ("at 8", "at 1")


async def test_recent_messages_are_those_of_people_not_known_as_deleted(make_inbox: MakeInbox) -> None:
    inbox = make_inbox()
    await inbox.accept(replace(EVENT, platform_message_id="old", sent_at=NOON - timedelta(days=1)))
    await inbox.accept(replace(EVENT, platform_message_id="gone"))
    await inbox.accept(replace(EVENT, platform_message_id="kept", thread_id="t1"))
    await inbox.accept(replace(EVENT, platform_message_id="elsewhere", platform_id="c2"))
    await inbox.accept(replace(EVENT, platform_message_id="d1", kind=EventKind.DELETION, refers_to="gone", text=""))
    assert await inbox.recent("c1", NOON) == {"kept": "t1"}
