"""Routing's pure functions: which session, engaged or not, and the row of an event."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nanohost.channel_api import EventKind, InboundEvent, Sender
from nanohost.db.conversations import SessionKey, session_key
from nanohost.db.events import ChatKey, StoredEvent
from nanohost.model import AgentGroupId, EngageMode, EventId, MessagingGroupId, SessionMode, Wiring, WiringId
from nanohost.routing.engagement import MAX_MATCHED_CHARS, should_engage
from nanohost.routing.inbound_message import build_message
from nanohost.routing.patterns import PatternError, matches, validate_pattern
from nanohost_protocol.rows import InKind

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
AGENT, CHAT = AgentGroupId(1), MessagingGroupId(2)
WIRING = Wiring(
    id=WiringId(3),
    messaging_group_id=CHAT,
    agent_group_id=AGENT,
    engage_mode=EngageMode.PATTERN,
    engage_pattern=".",
    session_mode=SessionMode.SHARED,
    priority=0,
    created_at=NOON,
)
EVENT = InboundEvent(
    platform_id="c1", platform_message_id="1", sender=Sender(handle="u1", name="Ada"), text="hello", sent_at=NOON
)
STORED = StoredEvent(id=EventId(1), chat=ChatKey("fake", "main", "c1"), event=EVENT, received_at=EVENT.sent_at)

SHARED, PER_THREAD, AGENT_SHARED = SessionMode.SHARED, SessionMode.PER_THREAD, SessionMode.AGENT_SHARED


@pytest.mark.behaviour("RT-01", "RT-02")
@pytest.mark.parametrize(
    ("mode", "is_group", "thread", "chat", "key_thread"),
    [
        (SHARED, False, None, CHAT, None),
        (SHARED, False, "7", CHAT, None),
        (SHARED, True, None, CHAT, None),
        (SHARED, True, "7", CHAT, "7"),
        (PER_THREAD, False, None, CHAT, None),
        (PER_THREAD, False, "7", CHAT, None),
        (PER_THREAD, True, None, CHAT, None),
        (PER_THREAD, True, "7", CHAT, "7"),
        (AGENT_SHARED, False, None, None, None),
        (AGENT_SHARED, False, "7", None, None),
        (AGENT_SHARED, True, None, None, None),
        (AGENT_SHARED, True, "7", None, None),
    ],
)
def test_an_event_is_assigned_to_its_session(
    mode: SessionMode, is_group: bool, thread: str | None, chat: MessagingGroupId | None, key_thread: str | None
) -> None:
    wiring = replace(WIRING, session_mode=mode)
    event = replace(EVENT, is_group=is_group, thread_id=thread)
    assert session_key(wiring, event) == SessionKey(AGENT, chat, key_thread)


@pytest.mark.behaviour("RT-04")
@pytest.mark.parametrize(
    ("pattern", "text", "engaged"),
    [
        (".", "hello", True),
        (".", "", True),
        (".", "\n", True),
        ("^nan\\b", "nan, hello", True),
        ("^nan\\b", "nanny", False),
        ("^nan\\b", "", False),
        ("(?i)NAN", "hello nan", True),
        ("x?", "", True),
        ("..", "a", False),
    ],
)
def test_a_pattern_engages_by_the_text_alone(pattern: str, text: str, engaged: bool) -> None:
    wiring = replace(WIRING, engage_pattern=pattern)
    for is_group in (True, False):
        for mentioned in (True, False):
            event = replace(EVENT, text=text, is_group=is_group, mentions_bot=mentioned)
            assert should_engage(wiring, event, has_session=True) is engaged


def test_a_pattern_is_matched_against_a_bounded_prefix_of_a_long_text() -> None:
    wiring = replace(WIRING, engage_pattern=".*bot")
    assert should_engage(wiring, replace(EVENT, text="x" * MAX_MATCHED_CHARS + "bot"), has_session=False) is False
    assert should_engage(wiring, replace(EVENT, text="hello bot" + "x" * 300_000), has_session=False) is True
    assert should_engage(wiring, replace(EVENT, text="x" * 300_000), has_session=False) is False


@pytest.mark.behaviour("RT-04")
@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)*bot", "(x{0,50}){0,20}$", "a{0,900}a{0,900}$"])
def test_no_pattern_blocks_the_host(pattern: str) -> None:
    try:
        validate_pattern(pattern)
    except PatternError:
        return
    for text in ("a" * 4096 + "!", "x" * 4096 + "!", "ä" * 4096):
        matches(pattern, text)


@pytest.mark.behaviour("RT-04")
@pytest.mark.parametrize(
    "pattern", ["(", "*", r"(a)\1", "a(?=b)", "(?<=a)b", "((a{100}){100}){100}", "a" * 501, "\ud800"]
)
def test_an_invalid_pattern_is_refused_with_a_readable_reason(pattern: str) -> None:
    with pytest.raises(PatternError) as refused:
        validate_pattern(pattern)
    assert str(refused.value).isprintable()
    assert not str(refused.value).startswith("b'")


@pytest.mark.behaviour("RT-04")
@pytest.mark.parametrize(
    ("mode", "is_group", "mentioned", "has_session", "engaged"),
    [
        (EngageMode.MENTION, False, False, False, True),
        (EngageMode.MENTION, True, True, False, True),
        (EngageMode.MENTION, True, False, False, False),
        (EngageMode.MENTION, True, False, True, False),
        (EngageMode.MENTION_STICKY, False, False, False, True),
        (EngageMode.MENTION_STICKY, True, True, False, True),
        (EngageMode.MENTION_STICKY, True, False, False, False),
        (EngageMode.MENTION_STICKY, True, False, True, True),
    ],
)
def test_a_mention_engages(mode: EngageMode, is_group: bool, mentioned: bool, has_session: bool, engaged: bool) -> None:
    event = replace(EVENT, is_group=is_group, mentions_bot=mentioned)
    assert should_engage(replace(WIRING, engage_mode=mode), event, has_session=has_session) is engaged


def test_building_a_row_from_the_same_event_twice_gives_the_same_row() -> None:
    assert build_message(STORED, WiringId(1)) == build_message(replace(STORED, id=EventId(99)), WiringId(1))


def test_a_row_states_what_happened_and_where() -> None:
    event = replace(EVENT, kind=EventKind.REACTION, text="👍", refers_to="0", thread_id="7")
    row = build_message(replace(STORED, event=event), WiringId(1))
    assert (row.kind, row.timestamp, row.trigger, row.on_wake, row.process_after) == (
        InKind.CHAT,
        NOON,
        True,
        False,
        None,
    )
    assert json.loads(row.content) == {
        "text": "👍",
        "sender": "Ada",
        "sender_id": "u1",
        "event": "reaction",
        "refers_to": "0",
    }
    assert row.origin is not None
    assert (row.origin.channel_type, row.origin.instance, row.origin.platform_id) == ("fake", "main", "c1")
    assert (row.origin.thread_id, row.origin.platform_message_id) == ("7", "0"), "an answer replies to a message"


@pytest.mark.behaviour("IN-02")
def test_a_row_id_depends_on_what_identifies_its_event() -> None:
    rows = [
        build_message(STORED, WiringId(1)),
        build_message(STORED, WiringId(2)),
        build_message(replace(STORED, chat=ChatKey("other", "main", "c1")), WiringId(1)),
        build_message(replace(STORED, chat=ChatKey("fake", "other", "c1")), WiringId(1)),
        build_message(replace(STORED, chat=ChatKey("fake", "main", "c2")), WiringId(1)),
        build_message(replace(STORED, event=replace(EVENT, platform_message_id="2")), WiringId(1)),
        build_message(replace(STORED, event=replace(EVENT, kind=EventKind.EDIT)), WiringId(1)),
    ]
    assert len({row.id for row in rows}) == len(rows)
    retold = build_message(replace(STORED, event=replace(EVENT, text="other", sent_at=NOON)), WiringId(1))
    assert retold.id == rows[0].id
