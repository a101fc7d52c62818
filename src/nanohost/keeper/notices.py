"""Sentences of the host's own on their way to people: one place in the ledger for each thing that can be said.

Their numbers are below zero, where no row of the agent is, and made of what they are about: saying it again, after a
crash or because two noticed, changes nothing. A lane sends the lowest first, so a later message's have higher ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nanohost.keeper.sentences import at_own_terminal
from nanohost.model import Session, SessionId
from nanohost.store.deliveries import Delivery, DeliveryStatus, LaneKey
from nanohost.store.notice_numbers import (
    GIVEN_UP,
    HELD,
    LAST_TRY,
    LATE,
    NO_TRY,
    NOTICES_A_MESSAGE,
    OF_DELIVERIES,
    OF_EVENTS,
    OF_MESSAGES,
    ON_HOLD,
)
from nanohost_protocol.ids import derive
from nanohost_protocol.payloads import ChatOut, encode
from nanohost_protocol.rows import MessageIn, Origin

TERMINAL = "terminal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A sentence about a message. `number`: the try it is about, or one of those in notice_numbers."""

    message: MessageIn
    number: int
    sentence: str


def delivery_of(session: Session, notice: Notice, now: datetime) -> Delivery:
    """The notice's entry in the ledger. Its message has an origin."""
    origin = notice.message.origin
    assert origin is not None
    id = notice_id(session.id, notice.message.id, notice.number)
    return _entry(session.id, notice_seq(notice.message, notice.number), id, origin, notice.sentence, now)


def about_event(session: SessionId, event: int, origin: Origin, sentence: str, now: datetime) -> Delivery:
    """About an event that has not come to a mailbox."""
    return _entry(session, OF_EVENTS + event, derive("n", session, "event", str(event)), origin, sentence, now)


def about_delivery(delivery: Delivery, sentence: str, now: datetime) -> Delivery:
    """About an answer that cannot be delivered, to the chat that it was for."""
    lane = delivery.lane
    origin = Origin(
        channel_type=lane.channel_type,
        instance=lane.instance,
        platform_id=delivery.platform_id,
        thread_id=delivery.thread_id,
        platform_message_id=delivery.reply_to,
    )
    id = derive("n", lane.session_id, "delivery", str(delivery.seq))
    return _entry(lane.session_id, OF_DELIVERIES + delivery.seq, id, origin, sentence, now)


def notice_id(session: SessionId, message_id: str, number: int) -> str:
    """What a notice about a message is known as."""
    return derive("n", session, message_id, str(number))


def notice_seq(message: MessageIn, number: int) -> int:
    """The number of a notice in the ledger."""
    number = number if number in (NO_TRY, GIVEN_UP, LATE, HELD, ON_HOLD) else min(number, LAST_TRY)
    return OF_MESSAGES + message.seq * NOTICES_A_MESSAGE + number


def notice_seqs(message: MessageIn) -> range:
    """All numbers that notices about this message can have."""
    first = OF_MESSAGES + message.seq * NOTICES_A_MESSAGE
    return range(first, first + NOTICES_A_MESSAGE)


def _for_whom(origin: Origin, sentence: str) -> str:
    """Who writes in the terminal has the files, and is the operator (decision 0083)."""
    return at_own_terminal(sentence) if origin.channel_type == TERMINAL else sentence


def _entry(session: SessionId, seq: int, out_id: str, origin: Origin, sentence: str, now: datetime) -> Delivery:
    return Delivery(
        lane=LaneKey(session, origin.channel_type, origin.instance, origin.platform_id),
        seq=seq,
        out_id=out_id,
        kind="chat",
        thread_id=origin.thread_id,
        reply_to=origin.platform_message_id,
        content=encode(ChatOut(text=_for_whom(origin, sentence))),
        status=DeliveryStatus.PENDING,
        created_at=now,
    )
