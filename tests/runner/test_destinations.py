"""Which chat a destination name means when one session serves several chats."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agent_runner.destinations import Address, AddressBook, ReplyContext, resolve_address
from nanohost_protocol.rows import ChatId, Destination, InKind, MessageIn
from nanohost_protocol.rows import Origin as RowOrigin

HOME = ChatId("fake", "default", "home")
OFFICE = ChatId("fake", "default", "office")
BOOK = AddressBook(
    destinations=(
        Destination(name="home", display_name="Home", chat=HOME),
        Destination(name="office", display_name="Office", chat=OFFICE),
    ),
    default="home",
)


def _row(seq: int, chat: ChatId) -> MessageIn:
    return MessageIn(
        seq=seq,
        id=f"m{seq}",
        kind=InKind.CHAT,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        status="pending",
        process_after=None,
        tries=0,
        trigger=True,
        on_wake=False,
        origin=RowOrigin(
            channel_type=chat.channel_type, instance=chat.instance, platform_id=chat.platform_id, thread_id=f"t{seq}"
        ),
        content="{}",
    )


@pytest.mark.behaviour("RU-07")
def test_a_destination_that_somebody_wrote_from_means_a_reply_to_them_in_their_thread() -> None:
    turn = [_row(2, OFFICE), _row(4, HOME), _row(6, OFFICE)]
    origin = ReplyContext(turn, turn_messages=turn)
    assert resolve_address("office", None, book=BOOK, reply_context=origin) == Address(in_reply_to="m6")
    assert resolve_address("home", None, book=BOOK, reply_context=origin) == Address(in_reply_to="m4")


def test_a_destination_that_nobody_wrote_from_is_left_to_the_host() -> None:
    turn = [_row(2, OFFICE)]
    assert resolve_address("home", None, book=BOOK, reply_context=ReplyContext(turn, turn_messages=turn)) == Address(
        destination="home"
    )


@pytest.mark.behaviour("RU-01")
def test_the_agent_is_told_the_chat_of_a_message() -> None:
    assert [BOOK.name_of_origin(_row(2, chat)) for chat in (OFFICE, HOME, ChatId("x", "y", "z"))] == [
        "office",
        "home",
        "home",
    ]
