"""Where a row of an agent may go: only where the host's own records allow."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from nanohost.db.actions import ActionRow, ActionStatus
from nanohost.db.deliveries import Delivery, DeliveryStatus
from nanohost.delivery.validate import AddressBook, validate
from nanohost.model import SessionId
from nanohost.testing.manual_clock import START as NOW
from nanohost_protocol.outbound import MalformedRow
from nanohost_protocol.payloads import ChatOut, EditOut, ReactionOut, encode
from nanohost_protocol.rows import MessageOut, Origin

HOME = Origin(channel_type="fake", instance="default", platform_id="c1")
OTHER = Origin(channel_type="other", instance="work", platform_id="c2")
ASKED = Origin(channel_type="fake", instance="default", platform_id="c1", thread_id="t1", platform_message_id="p1")
BOOK = AddressBook(by_name={"home": HOME, "other": OTHER}, default=HOME)
ROW = MessageOut(
    seq=3,
    id="o",
    turn_id="t",
    in_reply_to=None,
    timestamp=NOW,
    deliver_after=None,
    kind="chat",
    destination=None,
    content=encode(ChatOut(text="hi")),
)


def examined(row: MessageOut | MalformedRow, book: AddressBook = BOOK) -> Delivery:
    entry = validate(row, session=SessionId("s"), book=book, origins={"m1": ASKED}, now=NOW)
    assert isinstance(entry, Delivery)
    return entry


def test_an_answer_goes_to_the_chat_and_thread_of_its_question() -> None:
    entry = examined(replace(ROW, in_reply_to="m1"))
    assert (entry.platform_id, entry.thread_id, entry.reply_to) == ("c1", "t1", "p1")
    assert entry.status is DeliveryStatus.PENDING


def test_a_message_that_answers_nothing_goes_to_the_sessions_own_chat() -> None:
    for in_reply_to in (None, "m-of-another-session"):
        entry = examined(replace(ROW, in_reply_to=in_reply_to))
        assert (entry.platform_id, entry.reply_to, entry.status) == ("c1", None, DeliveryStatus.PENDING)


@pytest.mark.behaviour("DL-01")
def test_an_answer_to_a_chat_removed_from_the_session_is_dropped() -> None:
    entry = examined(replace(ROW, in_reply_to="m1"), AddressBook(by_name={"other": OTHER}, default=OTHER))
    assert entry.status is DeliveryStatus.DROPPED
    assert entry.reason == "the chat it answers is not one of the session's any more"
    assert entry.platform_id == ""


def test_a_named_destination_goes_to_its_chat_without_a_reply() -> None:
    entry = examined(replace(ROW, destination="other", in_reply_to="m1"))
    assert (entry.queue.channel_type, entry.queue.instance, entry.platform_id) == ("other", "work", "c2")
    assert entry.reply_to is None


@pytest.mark.parametrize(("thread_id", "reply_to"), [("t1", "p1"), (None, None)])
def test_a_destination_that_names_the_answered_chat_keeps_the_reply(
    thread_id: str | None, reply_to: str | None
) -> None:
    book = AddressBook(by_name={"home": replace(HOME, thread_id=thread_id)}, default=HOME)
    entry = examined(replace(ROW, destination="home", in_reply_to="m1"), book)
    assert (entry.platform_id, entry.thread_id, entry.reply_to) == ("c1", thread_id, reply_to)


@pytest.mark.behaviour("DL-01", "RU-06")
@pytest.mark.parametrize(
    ("row", "book", "reason"),
    [
        (replace(ROW, destination="nobody"), BOOK, "no destination 'nobody' (known: home, other)"),
        (replace(ROW, destination=""), BOOK, "no destination ''"),
        (replace(ROW, destination="x" * 5000), BOOK, "x" * 100),
        (ROW, AddressBook(by_name={}, default=None), "no chat of its own"),
        (replace(ROW, destination="a"), AddressBook(by_name={}, default=None), "known: none"),
        (replace(ROW, content="?"), BOOK, "not JSON"),
        (replace(ROW, kind="telepathy"), BOOK, "unknown kind"),
        (MalformedRow(seq=5, problem="timestamp"), BOOK, "malformed: timestamp"),
    ],
)
def test_a_row_that_may_not_be_sent_is_dropped_with_the_reason(
    row: MessageOut | MalformedRow, book: AddressBook, reason: str
) -> None:
    entry = examined(row, book)
    assert entry.status is DeliveryStatus.DROPPED
    assert entry.reason is not None
    assert reason in entry.reason
    assert len(entry.reason) < 300
    assert entry.seq == row.seq


def test_a_scheduled_row_waits_for_its_time() -> None:
    later = NOW + timedelta(hours=1)
    assert examined(replace(ROW, deliver_after=later)).not_before == later


def test_a_row_scheduled_before_it_was_written_is_refused_with_the_likely_intended_time() -> None:
    """The tool checks it at once; the host checks rows of other runners, too. A row that waited in the host is sent."""
    last_year = NOW - timedelta(days=365) + timedelta(hours=1)
    entry = validate(
        replace(ROW, deliver_after=last_year), session=SessionId("s"), book=BOOK, origins={"m1": ASKED}, now=NOW
    )
    assert isinstance(entry, ActionRow)
    assert entry.status is ActionStatus.REFUSED
    assert f"it is {NOW:%A, %Y-%m-%dT%H:%M}Z now" in str(entry.reason)
    assert f"You probably meant {NOW + timedelta(hours=1):%Y-%m-%dT%H:%M}Z" in str(entry.reason)
    for written, due in ((NOW, NOW - timedelta(minutes=4)), (NOW - timedelta(hours=2), NOW - timedelta(hours=1))):
        assert examined(replace(ROW, deliver_after=due, timestamp=written)).not_before == due


REACTS = replace(ROW, kind="reaction", content=encode(ReactionOut(message=4, emoji="👍")), destination="other")
EDITS = replace(ROW, kind="edit", content=encode(EditOut(message=1, text="now")), destination="other")


def validate_change(row: MessageOut, numbered: dict[int, Origin], book: AddressBook = BOOK) -> Delivery:
    entry = validate(row, session=SessionId("s"), book=book, origins={}, now=NOW, origins_by_number=numbered)
    assert isinstance(entry, Delivery)
    return entry


@pytest.mark.behaviour("DL-01", "DL-09")
def test_a_reaction_goes_to_the_chat_of_its_message_whatever_the_row_names() -> None:
    entry = validate_change(REACTS, {4: ASKED})
    assert (entry.platform_id, entry.reply_to, entry.status) == ("c1", "p1", DeliveryStatus.PENDING)


@pytest.mark.behaviour("DL-01", "DL-09")
def test_an_edit_goes_to_the_chat_of_the_edited_message() -> None:
    entry = validate_change(EDITS, {1: HOME})
    assert (entry.platform_id, entry.reply_to, entry.status) == ("c1", None, DeliveryStatus.PENDING)


@pytest.mark.behaviour("DL-01")
def test_an_edit_or_reaction_without_a_suitable_target_is_dropped() -> None:
    assert validate_change(EDITS, {}).reason == "there is no message 1 of this session to be found"
    elsewhere = AddressBook(by_name={"other": OTHER}, default=OTHER)
    assert validate_change(EDITS, {1: HOME}, elsewhere).status is DeliveryStatus.DROPPED
    assert validate_change(EDITS, {1: ASKED}).reason == "message 1 is not one of its own"
    blank = replace(REACTS, content=encode(ReactionOut(message=4, emoji=" ")))
    assert validate_change(blank, {4: ASKED}).reason == "it has no emoji"
