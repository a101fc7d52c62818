"""Deleted messages in every state, and removed reactions."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from nanohost.channel_api import Attachment, EventKind, InboundEvent, Sender
from nanohost.db import album_parts, events
from nanohost.mailbox.mailboxes import MAX_CONTEXT_MESSAGES
from nanohost.model import EngageMode, IgnoredMessagePolicy, Role, UnknownSender, WiringId
from nanohost.routing.albums import merge_pieces, with_unique_file_names
from nanohost.routing.deletions import DELETED_BY_AUTHOR
from nanohost.routing.route_resolver import RouteResolver
from nanohost.verify.ledger import EVENTS_WITHOUT_ROUTE
from nanohost_protocol.payloads import ChatIn, decode_in
from nanohost_protocol.rows import MessageIn
from tests.routing.test_router import CHAT, NOON, World, crash
from tests.routing.test_router import world as world
from tests.routing.test_unknown_sender_policy import approvals, held_texts, host_messages
from tests.routing.test_unknown_sender_policy import owned as owned

pytestmark = pytest.mark.behaviour("RT-14")


async def arrives(
    world: World,
    id: str,
    text: str,
    kind: EventKind = EventKind.MESSAGE,
    of: str | None = None,
    *,
    by: str = "u1",
    is_group: bool = False,
    mentions: bool = False,
) -> None:
    """An event under this id, as the inbox writes it."""
    event = InboundEvent(
        platform_id="c1",
        platform_message_id=id,
        sender=Sender(handle=by, name="Ada" if text else ""),
        text=text,
        sent_at=NOON,
        kind=kind,
        refers_to=of,
        is_group=is_group,
        mentions_bot=mentions,
    )
    async with world.store.transaction() as tx:
        await events.add(tx, CHAT, event, now=NOON)


async def deletes(world: World, id: str, *, by: str = "u1") -> None:
    await arrives(world, id, "", EventKind.DELETION, id, by=by)


async def rows(world: World, folder: str = "a") -> list[tuple[str, str, str | None, bool]]:
    """The rows in a mailbox: event, text, referred message, and whether it triggers."""
    session = await world.session(folder)
    found: list[MessageIn] = await world.mailboxes.read_inbound(session, lambda box: list(box.due(NOON)))
    seen = []
    for row in found:
        payload = decode_in(row.kind, row.content)
        assert isinstance(payload, ChatIn)
        seen.append((payload.event, payload.text, payload.refers_to, row.trigger))
    return seen


async def states(world: World) -> list[tuple[str, str, str | None]]:
    found = await world.store.fetch_all("SELECT text, status, reason FROM inbound_events ORDER BY id")
    return [(row["text"], row["status"], row["reason"]) for row in found]


async def people(world: World) -> list[str]:
    return [row["user_id"] for row in await world.store.fetch_all("SELECT user_id FROM users ORDER BY id")]


async def test_a_message_deleted_while_the_host_was_down_is_dropped_however_long_the_queue(
    world: World,
) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await arrives(world, "m1", "oops")
    await arrives(world, "e1", "oops!", EventKind.EDIT, "m1")
    for number in range(40):
        await arrives(world, f"n{number}", f"n{number}")
    await deletes(world, "m1")
    await world.route()
    assert await world.mailbox("a") == [f"n{number}" for number in range(40)]
    assert (await states(world))[:2] == [
        ("oops", "dropped", DELETED_BY_AUTHOR),
        ("oops!", "dropped", DELETED_BY_AUTHOR),
    ]
    assert await world.store.fetch_all(EVENTS_WITHOUT_ROUTE, (9,)) == []


async def test_a_deletion_of_a_delivered_message_is_written_without_waking_the_agent(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await arrives(world, "m1", "hello")
    await world.route()
    woken = list(world.woken)
    await deletes(world, "m1", by="an admin")
    await world.route()
    assert await rows(world) == [("message", "hello", None, True), ("deletion", "", "m1", False)]
    assert world.woken == woken
    assert await world.outcomes() == [("hello", "written"), ("", "context")]
    assert await people(world) == ["fake:u1"], "who deletes is no acquaintance"


async def test_a_deletion_is_written_once_also_after_a_crash_before_it_was_recorded(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await arrives(world, "m1", "hello")
    await world.route()
    await deletes(world, "m1")
    await crash(world)
    await world.route()
    assert await rows(world) == [("message", "hello", None, True), ("deletion", "", "m1", False)]


async def test_a_deletion_is_written_after_rows_that_wait_for_a_damaged_mailbox(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await arrives(world, "m0", "first")
    await world.route()
    broken = world.mailboxes.layout(await world.session("a")).inbound_db
    sound = broken.read_bytes()
    broken.write_bytes(b"not a database" * 100)
    await arrives(world, "m1", "hello")
    await world.route()
    await deletes(world, "m1")
    await world.route()
    broken.write_bytes(sound)
    async with world.router().opened():
        await world.until(lambda: _nothing_waits(world))
    assert [row[:2] for row in await rows(world)] == [("message", "first"), ("message", "hello"), ("deletion", "")]


async def _nothing_waits(world: World) -> bool:
    return not await world.store.fetch_all("SELECT 1 FROM routes WHERE outcome = 'waiting'")


async def test_an_unknown_sender_who_deletes_every_message_withdraws_the_request(owned: World) -> None:
    chat = await owned.chat(unknown=UnknownSender.REQUEST_APPROVAL)
    await owned.wire(chat, await owned.agent("a"))
    await arrives(owned, "m1", "let me in")
    await arrives(owned, "m2", "please")
    await owned.route()
    [(approval, _)] = await approvals(owned)
    await deletes(owned, "m1")
    await owned.route()
    assert await held_texts(owned) == [("please", approval)]
    assert await approvals(owned) == [(approval, "sender")]
    await deletes(owned, "m2")
    await owned.route()
    assert (await held_texts(owned), await approvals(owned)) == ([], [])
    [row] = await owned.store.fetch_all("SELECT status, reason FROM approvals")
    assert (row["status"], row["reason"]) == ("withdrawn", DELETED_BY_AUTHOR)
    assert await owned.outcomes() == [("let me in", "not_engaged"), ("please", "not_engaged")]
    assert approval in owned.asked


async def test_messages_held_for_a_chat_are_deleted_with_their_edits(owned: World) -> None:
    await arrives(owned, "m1", "hello bot")
    await arrives(owned, "e1", "hello, bot", EventKind.EDIT, "m1")
    await owned.route()
    assert len(await held_texts(owned)) == 2
    await deletes(owned, "m1")
    await owned.route()
    assert (await held_texts(owned), await approvals(owned)) == ([], [])
    assert (await states(owned))[:2] == [
        ("hello bot", "dropped", DELETED_BY_AUTHOR),
        ("hello, bot", "dropped", DELETED_BY_AUTHOR),
    ]
    assert await host_messages(owned) == []


async def test_a_quarantined_event_that_is_deleted_cannot_be_requeued(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await arrives(world, "m1", "odd")
    async with world.store.transaction() as tx:
        [stored] = await events.list_new(tx, CHAT, limit=1)
        await events.quarantine(tx, stored.id, "it failed")
    await deletes(world, "m1")
    await world.route()
    async with world.store.transaction() as tx:
        assert await events.requeue(tx, stored.id) is None


async def test_the_agent_is_not_told_of_a_deleted_command_that_the_host_handled(world: World) -> None:
    agent = await world.agent("a")
    await world.wire(await world.chat(), agent)
    await world.grant("fake:u1", Role.ADMIN, agent)
    await arrives(world, "m1", "/status")
    await world.route()
    await deletes(world, "m1")
    await world.route()
    assert await world.outcomes() == [("/status", "written")]


async def test_a_deletion_is_kept_with_its_accumulated_message_whatever_follows(world: World) -> None:
    chat = await world.chat(is_group=True)
    await world.wire(chat, await world.agent("a"), engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE)
    await groups(world, "m1", "@nan oops", mentions=True)
    await groups(world, "m2", "not to the agent")
    await world.route()
    for id in ("m1", "m2"):
        await deletes(world, id)
    await world.says(*(str(number) for number in range(MAX_CONTEXT_MESSAGES)), is_group=True)
    await world.route()
    assert [row for row in await rows(world) if row[0] == "deletion"] == [("deletion", "", "m1", False)]


async def test_a_removed_reaction_is_context(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await arrives(world, "m1", "hello")
    await world.route()
    woken = list(world.woken)
    await arrives(world, "r1", "👍", EventKind.REACTION_REMOVED, "m1")
    await world.route()
    assert (await rows(world))[1] == ("reaction_removed", "👍", "m1", False)
    assert world.woken == woken


# --- edits


async def edits(world: World, text: str, of: str, *, mentions: bool = False) -> None:
    await world.says(text, is_group=True, mentions=mentions, kind=EventKind.EDIT, refers_to=of, sender="u1", name="Ada")


async def groups(world: World, id: str, text: str, *, mentions: bool = False) -> None:
    await arrives(world, id, text, is_group=True, mentions=mentions)


@pytest.fixture
async def mentioned(world: World) -> World:
    """A group whose agent engages with mentions."""
    await world.wire(await world.chat(is_group=True), await world.agent("a"), engage=EngageMode.MENTION)
    return world


@pytest.mark.behaviour("RT-15")
@pytest.mark.parametrize("together", [True, False])
async def test_an_edit_that_adds_a_mention_becomes_a_message(mentioned: World, *, together: bool) -> None:
    await groups(mentioned, "m1", "what time is it in Lima?")
    if not together:
        await mentioned.route()
    await edits(mentioned, "@nan what time is it in Lima?", "m1", mentions=True)
    await mentioned.route()
    assert await rows(mentioned) == [("message", "@nan what time is it in Lima?", None, True)]
    assert len(mentioned.woken) == 1


@pytest.mark.behaviour("RT-15")
@pytest.mark.parametrize(
    ("told", "whole"),
    [([], ["a", "b", "c"]), (["b"], ["a", "b", "c"]), (["new"], ["a", "new", "c"])],
    ids=["no file", "the same file", "another file"],
)
async def test_an_edit_that_adds_a_mention_carries_all_files_of_the_album(
    mentioned: World, told: list[str], whole: list[str]
) -> None:
    for number, ref in enumerate("abc"):
        await albums(mentioned, f"m{number}", ref)
    await mentioned.route()
    await edits(mentioned, "@nan compare", "m1", mentions=True)
    [edit] = await events.list_new(mentioned.store, CHAT, limit=9)
    files = tuple(Attachment(ref=one) for one in told)
    stored = replace(edit, event=replace(edit.event, attachments=files))
    [wiring] = await mentioned.store.fetch_all("SELECT id FROM wirings")
    made = await RouteResolver(mentioned.store, mentioned.clock).with_message_files(stored, WiringId(wiring["id"]))
    assert [one.ref for one in made.event.attachments] == whole


async def albums(world: World, id: str, ref: str) -> None:
    event = InboundEvent(
        platform_id="c1",
        platform_message_id=id,
        sender=Sender(handle="u1", name="Ada"),
        text="",
        sent_at=NOON,
        is_group=True,
        attachments=(Attachment(ref=ref, name=f"{ref}.jpg"),),
        album="g1",
    )
    async with world.store.transaction() as tx:
        await events.add(tx, CHAT, event, now=NOON - timedelta(minutes=1))


@pytest.mark.behaviour("RT-15")
async def test_after_an_edit_became_a_message_later_edits_are_edits_and_its_deletion_is_reported(
    mentioned: World,
) -> None:
    await groups(mentioned, "m1", "Lima?")
    await edits(mentioned, "@nan Lima?", "m1", mentions=True)
    await edits(mentioned, "@nan Lima, Ohio?", "m1", mentions=True)
    await mentioned.route()
    await deletes(mentioned, "m1")
    await mentioned.route()
    assert await rows(mentioned) == [
        ("message", "@nan Lima?", None, True),
        ("edit", "@nan Lima, Ohio?", "m1", True),
        ("deletion", "", "m1", False),
    ]


@pytest.mark.behaviour("RT-15")
async def test_an_edit_that_removes_the_mention_is_context(mentioned: World) -> None:
    await groups(mentioned, "m1", "@nan hello", mentions=True)
    await edits(mentioned, "hello", "m1")
    await mentioned.route()
    assert await rows(mentioned) == [("message", "@nan hello", None, True), ("edit", "hello", "m1", False)]


@pytest.mark.behaviour("RT-15")
async def test_an_edit_that_turns_a_message_into_a_command_stays_an_edit(mentioned: World) -> None:
    await groups(mentioned, "m1", "compact")
    await edits(mentioned, "/compact", "m1", mentions=True)
    await mentioned.route()
    assert await rows(mentioned) == [("edit", "/compact", "m1", True)]


@pytest.mark.behaviour("RT-15")
async def test_an_edit_that_removes_a_command_becomes_a_message(mentioned: World) -> None:
    await groups(mentioned, "m1", "/stop", mentions=True)
    await mentioned.route()
    await edits(mentioned, "@nan what does stop do?", "m1", mentions=True)
    await mentioned.route()
    session = await mentioned.session("a")
    found: list[MessageIn] = await mentioned.mailboxes.read_inbound(session, lambda box: list(box.due(NOON)))
    said = [decode_in(row.kind, row.content) for row in found]
    assert [(one.event, one.text) for one in said if isinstance(one, ChatIn)] == [
        ("message", "@nan what does stop do?")
    ]


@pytest.mark.behaviour("RT-15")
async def test_an_edit_in_another_chat_with_the_same_id_is_not_an_edit_of_this_message(mentioned: World) -> None:
    """Two chats may use the same ids."""
    await mentioned.wire(await mentioned.chat("c2", is_group=True), await mentioned.agent("b"))
    event = InboundEvent(
        platform_id="c2",
        platform_message_id="m1",
        sender=Sender(handle="u1", name="Ada"),
        text="there",
        sent_at=NOON,
        is_group=True,
    )
    async with mentioned.store.transaction() as tx:
        await events.add(tx, replace(CHAT, platform_id="c2"), event, now=NOON)
    await groups(mentioned, "m1", "here")
    await edits(mentioned, "@nan here", "m1", mentions=True)
    await mentioned.route()
    assert await rows(mentioned) == [("message", "@nan here", None, True)]


async def test_deleting_the_message_withdraws_a_request_that_its_edit_made(owned: World) -> None:
    await owned.says("@bot hello", is_group=True, mentions=True, kind=EventKind.EDIT, refers_to="m1")
    await owned.route()
    assert len(await approvals(owned)) == 1
    await deletes(owned, "m1")
    await owned.route()
    assert await held_texts(owned) == []
    [row] = await owned.store.fetch_all("SELECT status FROM approvals")
    assert row["status"] == "withdrawn"


# --- one part of an album


async def album(world: World, *texts: str) -> None:
    """A joined album with these captions."""
    async with world.store.transaction() as tx:
        for number, text in enumerate(texts, 1):
            event = InboundEvent(
                platform_id="c1",
                platform_message_id=f"p{number}",
                sender=Sender(handle="u1", name="Ada"),
                text=text,
                sent_at=NOON,
                attachments=(Attachment(ref=f"f{number}", name="photo.jpg"),),
                album="g1",
            )
            await events.add(tx, CHAT, event, now=NOON - timedelta(hours=1))


async def files(world: World) -> list[list[str]]:
    """The names of the files of the events, except for deletions."""
    found = await world.store.fetch_all(
        "SELECT attachments FROM inbound_events WHERE status != 'routed' OR id = 1 ORDER BY id"
    )
    return [[one["name"] for one in json.loads(row["attachments"])] for row in found]


async def deletion_rows(world: World) -> list[tuple[str, str | None, tuple[str, ...]]]:
    """The deletions in the mailbox: text, message, files."""
    found: list[MessageIn] = await world.mailboxes.read_inbound(
        await world.session("a"), lambda box: list(box.due(NOON))
    )
    said = [decode_in(row.kind, row.content) for row in found]
    return [(one.text, one.refers_to, one.files) for one in said if isinstance(one, ChatIn) and one.event == "deletion"]


@pytest.mark.parametrize(
    ("deleted", "text", "file"),
    [("p1", "", "photo.jpg"), ("p2", "", "photo-2.jpg"), ("p3", "the last", "photo-3.jpg")],
)
async def test_a_deletion_in_a_delivered_album_reports_only_the_deleted_part(
    world: World, deleted: str, text: str, file: str
) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await album(world, "", "", "the last")
    await world.route()
    await deletes(world, deleted)
    await world.route()
    assert [(event, wakes) for event, _, _, wakes in await rows(world)] == [("message", True), ("deletion", False)]
    assert await deletion_rows(world) == [(text, "p1", (file,))]
    assert await world.mailbox("a") == ["the last", text]


async def test_a_waiting_album_is_delivered_without_its_deleted_parts(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await album(world, "", "", "the last")
    await _join(world)
    for number in range(20):  # the deletions are far behind it
        await arrives(world, f"m{number}", "more")
    await deletes(world, "p1")
    await deletes(world, "p3")
    await world.route()
    assert (await rows(world))[0] == ("message", "", None, True)
    assert (await files(world))[0] == ["photo-2.jpg"]


async def test_a_waiting_album_whose_parts_are_all_deleted_is_dropped(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await album(world, "", "look")
    await _join(world)
    await deletes(world, "p2")
    await deletes(world, "p1")
    await world.route()
    assert [(status, reason) for _, status, reason in await states(world)][:1] == [("dropped", DELETED_BY_AUTHOR)]
    assert await people(world) == []


async def _join(world: World) -> None:
    """Join the album, as a host that is killed right after."""
    found = await events.list_new(world.store, CHAT, limit=9)
    said = with_unique_file_names([one.event for one in found])
    async with world.store.transaction() as tx:
        await album_parts.add_all(tx, [(one.id, event) for one, event in zip(found, said, strict=True)])
        await events.join_album(tx, [one.id for one in found], merge_pieces(said))


async def test_deleting_every_part_of_a_delivered_album_is_reported_to_the_agent(
    world: World,
) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await album(world, "", "look")
    await world.route()
    for piece in ("p2", "p1"):
        await deletes(world, piece)
    await world.route()
    assert await deletion_rows(world) == [("look", "p1", ("photo-2.jpg",)), ("", "p1", ())]


async def test_a_part_deleted_while_the_mailbox_is_damaged_is_reported_correctly_later(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await album(world, "", "look")
    await world.route()
    session = await world.session("a")
    path = world.mailboxes.layout(session).inbound_db
    kept = path.read_bytes()
    path.write_bytes(b"no database at all" * 100)
    await deletes(world, "p1")
    await world.route()
    path.write_bytes(kept)
    await world.route()
    await world.until(lambda: _is_told(world))
    assert await deletion_rows(world) == [("", "p1", ("photo.jpg",))]


async def _is_told(world: World) -> bool:
    return not await world.store.fetch_all("SELECT 1 FROM routes WHERE outcome = 'waiting'")


async def test_deleting_parts_of_an_album_that_was_a_command_is_not_reported(world: World) -> None:
    agent = await world.agent("a")
    await world.wire(await world.chat(), agent)
    await world.grant("fake:u1", Role.ADMIN, agent)
    await album(world, "/status", "")
    await world.route()
    for piece in ("p2", "p1"):
        await deletes(world, piece)
        await world.route()
    assert await world.outcomes() == [("/status", "written")]


@pytest.mark.behaviour("RT-15")
@pytest.mark.parametrize("kind", [EventKind.EDIT, EventKind.REACTION, EventKind.MESSAGE])
async def test_an_event_about_a_later_album_part_refers_to_the_joined_message(world: World, kind: EventKind) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    await album(world, "", "look")
    await world.route()
    await arrives(world, "e1", "look here", kind, "p2")
    await world.route()
    assert (await rows(world))[1] == (kind, "look here", "p1", True)
    assert await about(world) == ["p1", "e1" if kind is EventKind.MESSAGE else "p1"]


async def about(world: World) -> list[str | None]:
    """The platform ids of the rows in the mailbox, or of their referred messages; the runner matches them by these."""
    found = await world.mailboxes.read_inbound(await world.session("a"), lambda box: list(box.due(NOON)))
    return [None if row.origin is None else row.origin.platform_message_id for row in found]


@pytest.mark.behaviour("RT-15")
@pytest.mark.parametrize("together", [True, False])
async def test_edits_of_different_album_parts_are_edits_of_one_message(mentioned: World, *, together: bool) -> None:
    for id in ("p1", "p2", "p3"):
        await albums(mentioned, id, id)
    for piece, text in (("p2", "@nan look"), ("p3", "@nan look here"), ("p1", "@nan look, please")):
        if not together:
            await mentioned.route()
        await edits(mentioned, text, piece, mentions=True)
    await mentioned.route()
    assert await rows(mentioned) == [
        ("message", "@nan look", None, True),
        ("edit", "@nan look here", "p1", True),
        ("edit", "@nan look, please", "p1", True),
    ]


async def test_edits_of_a_held_albums_parts_are_held_and_withdrawn_with_it(owned: World) -> None:
    await album(owned, "", "look")
    await arrives(owned, "e1", "look here", EventKind.EDIT, "p2")
    await owned.route()
    assert [text for text, _ in await held_texts(owned)] == ["look", "look here"]
    await deletes(owned, "p1")
    await owned.route()
    assert [text for text, _ in await held_texts(owned)] == ["look", "look here"]
    await deletes(owned, "p2")
    await owned.route()
    assert await held_texts(owned) == []
    [row] = await owned.store.fetch_all("SELECT status FROM approvals")
    assert row["status"] == "withdrawn"
