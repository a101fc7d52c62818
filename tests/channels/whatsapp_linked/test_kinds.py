"""What people send to a linked device, of every kind, and what the agent reads of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import _whatsapp_linked as channel
from nanohost.channel_api import EventKind, PartKind
from nanohost.inbox import sanitize
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator import BOB
from nanohost.testing.simulators.whatsapp_linked import WhatsAppLinkedSimulator
from nanohost_whatsapp_bridge import jids
from nanohost_whatsapp_bridge.content import WRAPPERS, MessageInfo, to_message
from nanohost_whatsapp_bridge.kinds import MEDIA, PARSERS, MessageContext
from nanohost_whatsapp_bridge.protocol import MAX_LINE_BYTES, Message, encode
from nanohost_whatsapp_bridge.values import Json
from tests.channels.receiving import run_channel

from .conftest import Make

ADAS, ME_ON_WHATSAPP = "1001@s.whatsapp.net", "1000@s.whatsapp.net"


# Any content of a message


def _to_message(content: Json, context: MessageContext | None = None, *, is_group: bool = False) -> Message | None:
    info = MessageInfo(id="M", chat="c", sender="1001", sender_name="Ada", sent_at=1.0, is_group=is_group)
    return to_message(content, info, context or MessageContext(me=("1000@s.whatsapp.net",)))


_KEYS = [
    *("contextInfo", "message", "text", "name", "options", "key", "type", "quotedMessage", "contacts", "vcard"),
    *("product", "hydratedTemplate", "hydratedButtons", "sections", "rows", "mentionedJID", "stanzaID", "paramsJSON"),
    *("editedMessage", "protocolMessage", "degreesLatitude", "startTime", "carouselMessage", "cards", "isForwarded"),
    *("messageContextInfo", "messageAssociation", "imageMessage", "conversation", "extendedTextMessage", *PARSERS),
]
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*PARSERS, *MEDIA, *WRAPPERS, "protocolMessage", "x"]), _VALUES, max_size=3))
@pytest.mark.content(ContentKind.UNREADABLE)
def test_no_content_makes_the_bridge_fail_and_each_line_can_be_parsed(content: Json) -> None:
    said = _to_message(content)
    if said is not None:
        line = encode(said)
        assert len(line) < MAX_LINE_BYTES
        heard_here = channel.parse(line)
        assert isinstance(heard_here, channel.Message)
        channel.to_inbound_event(heard_here)


def test_content_that_is_far_too_long_still_fits_into_a_line() -> None:
    cards = [{"displayName": "\x01" * 100_000} for _ in range(100)]
    said = _to_message({"contactsArrayMessage": {"contacts": cards}})
    assert said is not None
    assert len(encode(said)) < MAX_LINE_BYTES


@pytest.mark.content(ContentKind.CONTACT)
def test_every_one_of_many_contacts_is_listed() -> None:
    said = _to_message({"contactsArrayMessage": {"contacts": [{"displayName": f"Person {n}"} for n in range(257)]}})
    assert said is not None
    names = [line for part in said.parts for line in part.text.splitlines()]
    assert names == [f"Person {n}" for n in range(257)]
    assert len(said.parts) <= sanitize.MAX_PARTS


def test_the_omitted_rest_of_a_long_list_is_counted() -> None:
    form = json.dumps({f"q{n}": "yes" for n in range(51)})
    said = _to_message({"interactiveResponseMessage": {"nativeFlowResponseMessage": {"paramsJSON": form}}})
    assert said is not None
    assert said.parts[0].text.endswith("[cut: 1 more]")
    choices = [{"buttonText": {"displayText": f"b{n}"}} for n in range(60)]
    said = _to_message({"buttonsMessage": {"contentText": "Which?", "buttons": choices}})
    assert said is not None
    assert said.parts[0].text.endswith("b49 / [cut: 10 more]")


def test_an_endlessly_nested_message_is_shown_as_one_sentence() -> None:
    content: dict[str, object] = {"conversation": "deep"}
    for _ in range(50):
        content = {"ephemeralMessage": {"message": content}}
    said = _to_message(content)
    assert said is not None
    assert "cannot be shown" in said.parts[0].text


def test_a_sender_name_cannot_contain_more_than_a_name() -> None:
    context = MessageContext(people={"1002@s.whatsapp.net": "Bob\n/stop @1003", "1003@s.whatsapp.net": "Eve"})
    mentions = {"mentionedJID": ["1002@s.whatsapp.net", "1003@s.whatsapp.net"]}
    said = _to_message({"extendedTextMessage": {"text": "@1002 hi", "contextInfo": mentions}}, context)
    assert said is not None
    assert said.text == "@Bob /stop @1003 hi"


def test_a_mention_before_a_command_counts_in_a_group_unless_forwarded_or_quoted() -> None:
    mention = {"mentionedJID": ["1000@s.whatsapp.net"]}
    said = _to_message({"extendedTextMessage": {"text": "@1000 /stop", "contextInfo": mention}}, is_group=True)
    passed_on = {"extendedTextMessage": {"text": "@1000 /stop", "contextInfo": {**mention, "isForwarded": True}}}
    forwarded = _to_message(passed_on, is_group=True)
    assert said is not None
    assert forwarded is not None
    assert (said.text, said.mentions_me) == ("/stop", True)
    assert (forwarded.text, forwarded.mentions_me, forwarded.parts[0].kind) == ("", False, "forwarded")


def test_a_quoted_own_message_is_marked_as_the_bots_except_in_a_note_to_oneself() -> None:
    quote = {"stanzaID": "1", "participant": "1000@s.whatsapp.net", "quotedMessage": {"conversation": "at five"}}
    content = {"extendedTextMessage": {"text": "why?", "contextInfo": quote}}
    for to_self, author in ((False, "you"), (True, "")):
        said = _to_message(content, MessageContext(me=("1000@s.whatsapp.net",), is_self_chat=to_self))
        assert said is not None
        assert [(part.author, part.text) for part in said.parts] == [(author, "at five")]


@pytest.mark.content(ContentKind.UNKNOWN)
def test_fields_unknown_to_the_library_are_shown_as_one_sentence() -> None:
    assert _to_message({}) is None
    said = _to_message({}, MessageContext(has_unknown=True))
    assert said is not None
    assert said.parts[0].text == "a message that cannot be shown here: of a new kind"


@pytest.mark.parametrize(
    ("kind", "author", "is_admin", "honoured"),
    [
        ("edit", "ada", False, True),
        ("edit", None, False, True),
        ("edit", "bob", True, False),
        ("deletion", "bob", False, False),
        ("deletion", "bob", True, True),
        ("reaction", "bob", False, True),
    ],
)
def test_a_change_of_somebody_elses_message_is_accepted_where_the_apps_accept_it(
    kind: str, author: str | None, is_admin: bool, honoured: bool
) -> None:
    assert jids.may_change(kind, author=author, sender="ada", is_admin=is_admin) is honoured


@pytest.mark.content(ContentKind.REACTION, ContentKind.REACTION_REMOVED)
async def test_reactions_and_their_removal_are_reported(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    inbox = SuiteInbox()
    async with run_channel(make(), inbox):
        id = await phone.write(ADAS, "look", person=BOB)
        await phone.react(id, "👍", chat=ADAS)
        await phone.remove_reaction(id, "👍", chat=ADAS)
        await inbox.wait_until(lambda: len(inbox.accepted) == 3)
    assert [(one.kind, one.text, one.refers_to) for one in inbox.accepted[1:]] == [
        (EventKind.REACTION, "👍", id),
        (EventKind.REACTION_REMOVED, "", id),
    ]


def test_a_part_from_a_newer_bridge_is_shown_as_shared_content() -> None:
    said = channel.Message(ev="message", key="k", id="m", chat="c", sender="s", sent_at=1.0, parts=[_newer()])
    [part] = channel.to_inbound_event(said).parts
    assert (part.kind, part.text) == (PartKind.SHARED, "a hologram")


def _newer() -> channel.MessagePart:
    return channel.MessagePart(kind="hologram", text="a hologram")


@pytest.mark.content(ContentKind.EDIT_WITH_MENTION)
def test_an_edit_that_adds_a_mention_is_marked_as_one() -> None:
    mention = {"extendedTextMessage": {"text": "@1000 what now?", "contextInfo": {"mentionedJID": [ME_ON_WHATSAPP]}}}
    edit = {"protocolMessage": {"key": {"ID": "1"}, "type": "MESSAGE_EDIT", "editedMessage": mention}}
    said = _to_message(edit, is_group=True)
    assert said is not None
    assert (said.kind, said.text, said.mentions_me, said.refers_to) == ("edit", "what now?", True, "1")
