"""Adds messages of the host itself to the ledger: cards, notices, answers to commands.

They are deliveries of the pseudo-session `host`, sent by the same sender with the same promises as an agent's messages.
Their numbers are odd, as for all messages to people, and increase. The number also determines the queue of the message
in its chat (see DeliveryQueueKey.is_card_queue).
"""

from __future__ import annotations

from datetime import datetime

from nanohost.db import deliveries
from nanohost.db.database import Queries, Transaction
from nanohost.db.deliveries import Delivery, DeliveryQueueKey, DeliveryStatus
from nanohost.model import HOST_SESSION_ID
from nanohost_protocol.payloads import CardOut, ChatOut, EditOut, encode
from nanohost_protocol.rows import Origin, OutKind

HostPayload = ChatOut | CardOut | EditOut

MAX_SEQ = "SELECT ifnull(max(seq), 0) AS seq FROM deliveries WHERE session_id = ?"
BY_OUT_ID = "SELECT seq FROM deliveries WHERE session_id = ? AND out_id = ?"

_KINDS = {ChatOut: OutKind.CHAT, CardOut: OutKind.CARD, EditOut: OutKind.EDIT}


async def enqueue(
    tx: Transaction, place: Origin, payload: HostPayload, *, out_id: str, now: datetime, in_card_queue: bool = False
) -> Delivery:
    """Add a message and return its entry. Emits QueueHasWork.

    `out_id`: the id of the message; a second call with the same id returns the first one's entry. The message replies
    to the message that `place` names, if any. An EditOut names the number of an earlier message, and uses the same
    queue. `in_card_queue`: whether a text is about a decision, and uses the queue of cards.
    """
    existing = await tx.fetch_one(BY_OUT_ID, (HOST_SESSION_ID, out_id))
    if existing is not None:
        delivery = await deliveries.find(tx, HOST_SESSION_ID, existing["seq"])
        assert delivery is not None, "it was just read"
        return delivery
    row = await tx.fetch_one(MAX_SEQ, (HOST_SESSION_ID,))
    assert row is not None, "an aggregate has a row"
    is_card = _is_card(payload, in_card_queue=in_card_queue)
    delivery = Delivery(
        queue=DeliveryQueueKey(HOST_SESSION_ID, place.channel_type, place.instance, place.platform_id, is_card),
        seq=_next_seq(row["seq"], is_card=is_card),
        out_id=out_id,
        kind=_KINDS[type(payload)],
        thread_id=place.thread_id,
        reply_to=place.platform_message_id,
        content=encode(payload),
        status=DeliveryStatus.PENDING,
        created_at=now,
    )
    await deliveries.add(tx, delivery)
    return delivery


async def withdraw(tx: Transaction, payload: ChatOut, *, reason: str, now: datetime) -> None:
    """Drop pending messages with this content, since they are out of date."""
    await deliveries.withdraw_by_content(tx, HOST_SESSION_ID, encode(payload), reason, now)


def _is_card(payload: HostPayload, *, in_card_queue: bool) -> bool:
    match payload:
        case CardOut():
            return True
        case EditOut(message=number):
            return deliveries.is_card_number(number)
        case ChatOut():
            return in_card_queue


def _next_seq(highest: int, *, is_card: bool) -> int:
    """Returns the next number above `highest`: for cards 3, 7, 11, …, for other messages 1, 5, 9, …"""
    return highest + 1 + ((3 if is_card else 1) - highest - 1) % 4


async def find(db: Queries, seq: int) -> Delivery | None:
    """Returns the host's message with this number."""
    return await deliveries.find(db, HOST_SESSION_ID, seq)


def origin_of(delivery: Delivery) -> Origin:
    """Returns where a message was sent, to send another one to the same chat."""
    queue = delivery.queue
    return Origin(
        channel_type=queue.channel_type,
        instance=queue.instance,
        platform_id=queue.platform_id,
        thread_id=delivery.thread_id,
    )
