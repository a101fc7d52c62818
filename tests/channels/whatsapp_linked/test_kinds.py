"""What people send to a linked device, of every kind, and what the agent reads of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import _whatsapp_linked as channel
from nanohost.channel_api import EventKind, InboundEvent, PartKind
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulator import BOB
from nanohost.testing.simulators.whatsapp_linked import GROUP, WhatsAppLinkedSimulator
from nanohost.wa_bridge import names
from nanohost.wa_bridge.content import WRAPPERS, Place, heard
from nanohost.wa_bridge.kinds import MEDIA, READERS, Around
from nanohost.wa_bridge.protocol import MAX_LINE_BYTES, Message, encode
from nanohost.wa_bridge.values import Json
from tests.support.arrivals import ROOT, Case, cases, check, inputs, table

from .conftest import Make

ADAS = "1001@s.whatsapp.net"
CASES = inputs("whatsapp_linked")


@asynccontextmanager
async def _receiving(make: Make, inbox: SuiteInbox) -> AsyncIterator[None]:
    linked = make()
    async with linked.connected():
        task = asyncio.create_task(linked.receive(inbox))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _arrived(phone: WhatsAppLinkedSimulator, make: Make, case: Case) -> list[InboundEvent]:
    """What the host is told of the case; the last thing said shows that nothing more comes."""
    inbox = SuiteInbox()
    chat = GROUP if case.get("chat") == "group" else ADAS
    async with _receiving(make, inbox):
        if "earlier" in case:
            await phone.say(chat, case["earlier"], message_id="EARLIER")
        for number, content in enumerate(case.get("input_series") or [case["input"]]):
            id = f"SERIES-{number + 1}"
            await phone.say(chat, content, message_id=id, file=b"x", chosen=case.get("chosen"))
        await phone.write(chat, "that was all")
        await inbox.until_accepted("that was all")
    return inbox.accepted["earlier" in case : -1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_what_somebody_sends_is_read_as_what_it_is(
    phone: WhatsAppLinkedSimulator, make: Make, case: Case
) -> None:
    check(case, await _arrived(phone, make, case))


async def test_the_page_says_what_arrives_as_what(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    rows = [(case, await _arrived(phone, make, case)) for case in CASES]
    page = (ROOT / "docs" / "channels" / "whatsapp-linked.md").read_text(encoding="utf-8")
    assert table(rows) in page, f"the page lacks this table:\n\n{table(rows)}"


async def test_whatever_the_simulator_can_send_is_told(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    inbox = SuiteInbox()
    async with _receiving(make, inbox):
        for kind in phone.kinds():
            await phone.send_kind(kind, ADAS)
        await phone.write(ADAS, "that was all")
        await inbox.until_accepted("that was all")
    assert len(inbox.accepted) >= len(phone.kinds()) + 1
    empty = [one for one in inbox.accepted if not (one.text or one.parts or one.attachments)]
    assert [one.kind for one in empty] == [EventKind.DELETION, EventKind.REACTION_REMOVED]
    assert all(one.refers_to for one in empty)


def test_every_case_without_an_input_has_a_test_of_its_own() -> None:
    assert [case["name"] for case in cases("whatsapp_linked") if "then" in case] == []


# Whatever somebody writes into a message


def _heard(content: Json, around: Around | None = None, *, is_group: bool = False) -> Message | None:
    place = Place(id="M", chat="c", sender="1001", sender_name="Ada", sent_at=1.0, is_group=is_group)
    return heard(content, place, around or Around(me=("1000@s.whatsapp.net",)))


_KEYS = [
    *("contextInfo", "message", "text", "name", "options", "key", "type", "quotedMessage", "contacts", "vcard"),
    *("product", "hydratedTemplate", "hydratedButtons", "sections", "rows", "mentionedJID", "stanzaID", "paramsJSON"),
    *("editedMessage", "protocolMessage", "degreesLatitude", "startTime", "carouselMessage", "cards", "isForwarded"),
    *("messageContextInfo", "messageAssociation", "imageMessage", "conversation", "extendedTextMessage", *READERS),
]
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*READERS, *MEDIA, *WRAPPERS, "protocolMessage", "x"]), _VALUES, max_size=3))
def test_no_content_makes_the_bridge_fail_and_each_line_can_be_heard(content: Json) -> None:
    said = _heard(content)
    if said is not None:
        line = encode(said)
        assert len(line) < MAX_LINE_BYTES
        heard_here = channel.parse(line)
        assert isinstance(heard_here, channel.Message)
        channel.event_of(heard_here)


def test_what_is_far_too_long_still_fits_into_a_line() -> None:
    cards = [{"displayName": "\x01" * 100_000} for _ in range(100)]
    said = _heard({"contactsArrayMessage": {"contacts": cards}})
    assert said is not None
    assert len(encode(said)) < MAX_LINE_BYTES


def test_a_layer_that_never_ends_is_a_sentence() -> None:
    content: dict[str, object] = {"conversation": "deep"}
    for _ in range(50):
        content = {"ephemeralMessage": {"message": content}}
    said = _heard(content)
    assert said is not None
    assert "cannot be shown" in said.parts[0].text


def test_a_name_cannot_pass_for_more_than_a_name() -> None:
    around = Around(people={"1002@s.whatsapp.net": "Bob\n/stop @1003", "1003@s.whatsapp.net": "Eve"})
    mentions = {"mentionedJID": ["1002@s.whatsapp.net", "1003@s.whatsapp.net"]}
    said = _heard({"extendedTextMessage": {"text": "@1002 hi", "contextInfo": mentions}}, around)
    assert said is not None
    assert said.text == "@Bob /stop @1003 hi"


def test_a_command_behind_our_own_name_is_heard_in_a_group_and_a_forwarded_or_quoted_one_is_not() -> None:
    mention = {"mentionedJID": ["1000@s.whatsapp.net"]}
    said = _heard({"extendedTextMessage": {"text": "@1000 /stop", "contextInfo": mention}}, is_group=True)
    passed_on = {"extendedTextMessage": {"text": "@1000 /stop", "contextInfo": {**mention, "isForwarded": True}}}
    forwarded = _heard(passed_on, is_group=True)
    assert said is not None
    assert forwarded is not None
    assert (said.text, said.mentions_me) == ("/stop", True)
    assert (forwarded.text, forwarded.mentions_me, forwarded.parts[0].kind) == ("", False, "forwarded")


def test_our_own_message_is_quoted_as_ours_but_for_a_note_to_oneself() -> None:
    quote = {"stanzaID": "1", "participant": "1000@s.whatsapp.net", "quotedMessage": {"conversation": "at five"}}
    content = {"extendedTextMessage": {"text": "why?", "contextInfo": quote}}
    for to_self, author in ((False, "you"), (True, "")):
        said = _heard(content, Around(me=("1000@s.whatsapp.net",), talks_to_self=to_self))
        assert said is not None
        assert [(part.author, part.text) for part in said.parts] == [(author, "at five")]


def test_fields_that_even_the_library_does_not_know_are_a_sentence() -> None:
    assert _heard({}) is None
    said = _heard({}, Around(has_unknown=True))
    assert said is not None
    assert said.parts[0].text == "a message that cannot be shown here: of a new kind"


@pytest.mark.parametrize(
    ("kind", "author", "is_admin", "heeded"),
    [
        ("edit", "ada", False, True),
        ("edit", None, False, True),
        ("edit", "bob", True, False),
        ("deletion", "bob", False, False),
        ("deletion", "bob", True, True),
        ("reaction", "bob", False, True),
    ],
)
def test_a_change_of_somebody_elses_message_is_heeded_where_the_apps_do(
    kind: str, author: str | None, is_admin: bool, heeded: bool
) -> None:
    assert names.may_change(kind, author=author, sender="ada", is_admin=is_admin) is heeded


async def test_people_react_and_take_it_back(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    inbox = SuiteInbox()
    async with _receiving(make, inbox):
        id = await phone.write(ADAS, "look", person=BOB)
        await phone.react(id, "👍", chat=ADAS)
        await phone.react(id, "", chat=ADAS)
        await inbox.until(lambda: len(inbox.accepted) == 3)
    assert [(one.kind, one.text, one.refers_to) for one in inbox.accepted[1:]] == [
        (EventKind.REACTION, "👍", id),
        (EventKind.REACTION_REMOVED, "", id),
    ]


def test_a_part_of_a_newer_bridge_is_shown_like_what_is_shared() -> None:
    said = channel.Message(ev="message", key="k", id="m", chat="c", sender="s", sent_at=1.0, parts=[_newer()])
    [part] = channel.event_of(said).parts
    assert (part.kind, part.text) == (PartKind.SHARED, "a hologram")


def _newer() -> channel.Beside:
    return channel.Beside(kind="hologram", text="a hologram")
