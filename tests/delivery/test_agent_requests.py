"""Outbound rows that are requests and not messages."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from nanohost.db.actions import ActionRow, ActionStatus
from nanohost.delivery.validate import AddressBook, validate
from nanohost.model import SessionId
from nanohost.testing.manual_clock import START as NOW
from nanohost_protocol.payloads import ChatOut, QuestionOut, SystemOut, TaskOut, encode
from nanohost_protocol.rows import MessageOut, Origin

HOME = Origin(channel_type="fake", instance="default", platform_id="c1")
OTHER = Origin(channel_type="other", instance="work", platform_id="c2")
ASKED = Origin(channel_type="fake", instance="default", platform_id="c1", thread_id="t1", platform_message_id="p1")
BOOK = AddressBook(by_name={"home": HOME, "other": OTHER}, default=HOME)
NOWHERE = AddressBook(by_name={}, default=None)
TASK = MessageOut(
    seq=3,
    id="o",
    turn_id="t",
    in_reply_to="m1",
    timestamp=NOW - timedelta(seconds=5),
    deliver_after=None,
    kind="task",
    destination=None,
    content=encode(TaskOut(prompt="water", due="in 10 min")),
)
SYSTEM = replace(TASK, kind="system", content=encode(SystemOut(action="tasks.pause", arguments='{"id":"j"}')))
REPEATED = replace(TASK, kind="chat", content=encode(ChatOut(text="up")), recurrence="0 9 * * *")


def requested(row: MessageOut, book: AddressBook = BOOK) -> ActionRow:
    entry = validate(row, session=SessionId("s"), book=book, origins={"m1": ASKED}, now=NOW)
    assert isinstance(entry, ActionRow)
    return entry


@pytest.mark.parametrize(
    ("row", "name", "arguments"),
    [
        (TASK, "tasks.create", {"prompt": "water", "due": "in 10 min", "recurrence": None}),
        (SYSTEM, "tasks.pause", {"id": "j"}),
        (
            replace(REPEATED, deliver_after=NOW),
            "messages.repeat",
            {
                "kind": "chat",
                "content": '{"text":"up"}',
                "due": "2026-01-01T12:00:00.000000Z",
                "recurrence": "0 9 * * *",
            },
        ),
    ],
)
def test_a_request_is_recorded_with_the_chat_for_answers(
    row: MessageOut, name: str, arguments: dict[str, object]
) -> None:
    entry = requested(row)
    assert (entry.seq, entry.out_id, entry.name, json.loads(entry.arguments)) == (3, "o", name, arguments)
    assert (entry.status, entry.origin, entry.notice_id) == (ActionStatus.PENDING, ASKED, None)


def test_the_request_time_is_the_runners_unless_it_is_in_the_future() -> None:
    assert requested(TASK).requested_at == TASK.timestamp
    assert requested(replace(TASK, timestamp=NOW + timedelta(days=1))).requested_at == NOW


@pytest.mark.behaviour("TK-07")
def test_a_repeated_message_goes_to_its_named_destination() -> None:
    assert requested(replace(REPEATED, destination="other")).origin == OTHER


@pytest.mark.parametrize(
    ("row", "book", "reason"),
    [
        (replace(SYSTEM, content="?"), BOOK, "not JSON"),
        (replace(SYSTEM, content="{}"), BOOK, "is missing"),
        (replace(REPEATED, destination="nobody"), BOOK, "no destination 'nobody'"),
        (replace(REPEATED, in_reply_to=None), NOWHERE, "no chat of its own"),
        (replace(REPEATED, content="?"), BOOK, "not JSON"),
        (replace(REPEATED, kind="telepathy"), BOOK, "a telepathy cannot be sent again and again"),
        (
            replace(REPEATED, kind="question", content=encode(QuestionOut(text="?", options=("a",)))),
            BOOK,
            "a question cannot be sent again and again",
        ),
    ],
)
def test_an_impossible_request_is_refused_on_record(row: MessageOut, book: AddressBook, reason: str) -> None:
    entry = requested(row, book)
    assert (entry.status, entry.done_at) == (ActionStatus.REFUSED, NOW)
    assert reason in (entry.reason or "")
    assert entry.notice_id is not None


def test_a_request_without_a_chat_is_still_a_request() -> None:
    assert requested(replace(SYSTEM, in_reply_to=None), NOWHERE).origin is None


def test_a_lone_surrogate_in_a_request_does_not_block_later_rows() -> None:
    content = '{"action":"\\ud800' + "x" * 5000 + '","arguments":"\\udfff"}'
    entry = requested(replace(SYSTEM, content=content))
    assert (entry.name[:2], len(entry.name), entry.arguments) == ("?x", 200, "?")
