"""When the parts of an album are complete, and how they are joined."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanohost.channel_api import Attachment, InboundEvent, Part, PartKind, Sender
from nanohost.db.events import ChatKey, StoredEvent
from nanohost.model import EventId
from nanohost.routing.albums import (
    MAX_ALBUM_WAIT_S,
    MAX_PIECES,
    PIECE_WAIT_S,
    merge_pieces,
    remaining_wait_s,
    with_unique_file_names,
)
from nanohost.routing.attachments import unique_file_names

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
EVENT = InboundEvent(
    platform_id="c1",
    platform_message_id="1",
    sender=Sender(handle="u1", name="Ada"),
    text="",
    sent_at=NOON,
    album="g1",
    attachments=(Attachment(ref="f1"),),
)


def parts_received(*seconds: float) -> list[StoredEvent]:
    """Parts that were received so long after noon."""
    chat = ChatKey("fake", "main", "c1")
    return [
        StoredEvent(id=EventId(at), chat=chat, event=EVENT, received_at=NOON + timedelta(seconds=one))
        for at, one in enumerate(seconds)
    ]


@pytest.mark.parametrize(
    ("pieces", "now", "left"),
    [
        (parts_received(0), 0, PIECE_WAIT_S),
        (parts_received(0, 0.2, 0.5), 0.75, PIECE_WAIT_S - 0.25),
        (parts_received(0, 0.5), 0.5 + PIECE_WAIT_S, 0),
        (parts_received(*(each * 0.9 for each in range(6))), 4.9, MAX_ALBUM_WAIT_S - 4.9),
        (parts_received(*[0.0] * MAX_PIECES), 0, 0),
    ],
)
def test_an_album_stays_open_briefly_after_its_latest_part_and_never_for_long(
    pieces: list[StoredEvent], now: float, left: float
) -> None:
    assert remaining_wait_s(pieces, NOON + timedelta(seconds=now)) == pytest.approx(left)


def test_a_clock_set_back_does_not_keep_an_album_open() -> None:
    assert remaining_wait_s(parts_received(0, 0.5), NOON - timedelta(hours=1)) <= 0


def test_a_joined_album_has_all_texts_and_files_in_order_and_mentions_the_bot_if_one_part_does() -> None:
    link = Part(kind=PartKind.LINK, text="here", url="https://example.com")
    pieces = parts_received(0, 0, 0)
    pieces[1] = replace(
        pieces[1],
        event=replace(
            EVENT, text="look", mentions_bot=True, refers_to="0", attachments=(Attachment(ref="f2"),), parts=(link,)
        ),
    )
    assert merge_pieces([one.event for one in pieces]) == replace(
        EVENT,
        text="look",
        mentions_bot=True,
        refers_to="0",
        attachments=tuple(Attachment(ref=ref) for ref in ("f1", "f2", "f1")),
        parts=(link,),
        album=None,
    )


@given(st.lists(st.text("ab.-_ \u00e4", max_size=70) | st.just("x" * 59 + ".jpg"), min_size=1, max_size=6), st.data())
def test_a_file_of_an_album_keeps_its_name_whichever_part_is_deleted(names: list[str], data: st.DataObject) -> None:
    pieces = with_unique_file_names([replace(EVENT, attachments=(Attachment(ref="f", name=name),)) for name in names])
    files = [file for one in pieces for file in one.attachments]
    left = data.draw(st.lists(st.sampled_from(files), unique_by=lambda file: file.name))
    left.sort(key=files.index)
    assert len({file.name.lower() for file in files}) == len(files)
    assert unique_file_names(left) == [file.name for file in left]
