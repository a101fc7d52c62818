"""Undocumented data from Telegram: always an event where a chat and a sender are known, and never somebody else's text
as the sender's own."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from structlog.testing import capture_logs
from telegram import Update, User

from channels.telegram import _group_by_chat, _readable_updates, parse_chat_move, parse_update
from nanohost.channel_api import InboundEvent
from nanohost.inbox.sanitize import find_problem, sanitize
from nanohost.testing.content import ContentKind
from nanohost.testing.simulators._telegram_kinds import KINDS

ME = User(id=123456789, first_name="Nano", is_bot=True, username="nano_test_bot")
BODY = {
    "message_id": 5,
    "date": 1_790_000_000,
    "chat": {"id": 1001, "type": "private", "first_name": "Ada"},
    "from": {"id": 1001, "is_bot": False, "first_name": "Ada"},
}
NOT_THEIRS = ("forward_origin", "via_bot")
"""With one of these a message's text is not its sender's own."""
INSTEAD: tuple[object, ...] = (None, 7, -1, True, "x", "\ud800", [], [7], [None], {}, {"a": {"b": []}}, 10**18)


def event_of(update: dict[str, Any]) -> InboundEvent | None:
    """The event that the channel makes of an update."""
    [readable] = _readable_updates([update])
    parsed = Update.de_json(dict(readable), None)
    return parse_update(parsed, ME)


def moves(update: dict[str, Any]) -> tuple[str, str] | None:
    """The move that the channel reads in an update: the old group and the new one."""
    [readable] = _readable_updates([update])
    return parse_chat_move(Update.de_json(dict(readable), None))


def broken(content: object) -> Iterator[Any]:
    """The content with one value, at any depth, replaced by something else; and without it."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield {name: deepcopy(one) for name, one in content.items() if name != key}
            for other in (*INSTEAD, *broken(value)):
                yield deepcopy(content) | {key: other}
    elif isinstance(content, list):
        for at, value in enumerate(content):
            for other in (*INSTEAD, *broken(value)):
                yield [*content[:at], other, *content[at + 1 :]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.content(ContentKind.UNREADABLE)
def test_undocumented_content_is_described_somehow(kind: str) -> None:
    count = 0
    with capture_logs():
        for content in KINDS[kind]:
            for other in broken(content):
                if not other:
                    continue
                event = event_of({"update_id": 1, "message": BODY | other})
                assert event is not None or _is_nothing(other), other
                if event is not None:
                    assert find_problem(event) is None, (other, find_problem(event))
                    assert sanitize(event, has_threads=True).sender.handle == "1001"
                    assert not event.text or not any(other.get(key) for key in NOT_THEIRS), other
                count += 1
    assert count > 10


def test_unknown_fields_beside_known_ones_change_nothing() -> None:
    press = {
        "id": "9",
        "from": BODY["from"],
        "chat_instance": "1",
        "data": "q:1",
        "message": BODY | {"text": "Shall we?"},
    }
    for known in ({"callback_query": press}, {"message": BODY | {"text": "hi", "mood": {"title": "good"}}}):
        before = event_of({"update_id": 1, **deepcopy(known)})
        after = event_of({"update_id": 1, **deepcopy(known), "sent_through": {"from": BODY["from"]}})
        assert before is not None
        assert after == before
        assert after.parts == ()


@pytest.mark.content(ContentKind.UNREADABLE)
def test_undocumented_senders_and_chats_raise_nothing() -> None:
    count = 0
    group = {"id": -7, "type": "supergroup", "title": "Home"}
    press = {"id": "9", "from": BODY["from"], "chat_instance": "1", "data": "q:1", "message": BODY}
    change = {"message_id": 5, "date": 1, "chat": group, "user": BODY["from"], "old_reaction": []}
    reaction = {**change, "new_reaction": [{"type": "emoji", "emoji": "👍"}]}
    joined = BODY | {"chat": group, "migrate_to_chat_id": -8}
    shown = BODY | {"chat": group, "sender_chat": group, "text": "hi"}
    said = {"message": shown, "callback_query": press, "message_reaction": reaction}
    with capture_logs():
        for kind, content in (*said.items(), ("message", joined)):
            for other in broken(content):
                update = {"update_id": 1, kind: other}
                if (event := event_of(update)) is not None:
                    find_problem(event)
                moves(update)
                _group_by_chat([Update.de_json(dict(readable), None) for readable in _readable_updates([update])])
                count += 1
    assert count > 100


@pytest.mark.parametrize("name", [7, None, [], {"a": 1}])
def test_an_invalid_name_is_replaced_by_the_id(name: object) -> None:
    here = {"chat": {"id": -7, "type": "supergroup", "title": name}, "text": "hi"}
    event = event_of(
        {"update_id": 1, "message": BODY | here | {"from": {"id": 1001, "is_bot": False, "first_name": name}}}
    )
    assert event is not None
    assert (event.text, event.sender.handle, event.sender.name) == ("hi", "1001", "1001")
    assert event.chat_name == ""


@pytest.mark.parametrize(
    "update",
    [
        {"future": {"message_id": 5, "date": 1, "chat": BODY["chat"]}},
        {"future": {"from": BODY["from"], "text": "where?"}},
        {"future": 7},
        {"message": BODY | {"date": "tomorrow", "text": "hi"}},
        {"message": {"message_id": 5, "date": 1, "chat": BODY["chat"], "text": "by nobody"}},
        {},
    ],
    ids=str,
)
def test_an_update_without_a_sender_or_chat_is_logged(update: dict[str, Any]) -> None:
    with capture_logs() as lines:
        assert event_of({"update_id": 1, **update}) is None
    assert len(lines) >= 1


def _is_nothing(content: dict[str, Any]) -> bool:
    """Content without information: everything is empty, or a reply, or part of an album or topic, without text."""
    beside = {
        *("reply_to_message", "external_reply", "reply_to_story", "quote", "media_group_id", "entities", "via_bot"),
        *("message_thread_id", "is_topic_message"),
    }
    return not any(value for key, value in content.items() if key not in beside)
