"""What the host itself says to people, outside of any conversation with an agent: cards, answers to those who run it.

Such messages are entries of the ledger like an agent's, of a session that is none (`HOST`): the same sender, the same
promises. Their numbers are odd, as those of all that is said; each is above all before it, and says in which lane of
its chat it is (see DeliveryQueueKey.cards).
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
    """Enter a message. Emits QueueHasWork.

    `out_id` names what is said: said again under the same one, it is the first one's entry that comes back. An answer
    replies to the message that `place` names, if it names one. An EditOut names the number of an earlier message, and
    goes the way that one went. `in_card_queue`: it is about what cards are about, and goes out by their lane.
    """
    earlier = await tx.fetch_one(BY_OUT_ID, (HOST_SESSION_ID, out_id))
    if earlier is not None:
        found = await deliveries.find(tx, HOST_SESSION_ID, earlier["seq"])
        assert found is not None, "it was just seen"
        return found
    row = await tx.fetch_one(MAX_SEQ, (HOST_SESSION_ID,))
    assert row is not None, "an aggregate has a row"
    match payload:
        case CardOut():
            is_card = True
        case EditOut(message=number):
            is_card = deliveries.is_card_number(number)
        case ChatOut():
            is_card = in_card_queue
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
    """It is so no more: nobody who has not heard these words yet hears them."""
    await deliveries.withdraw_by_content(tx, HOST_SESSION_ID, encode(payload), reason, now)


def _next_seq(highest: int, *, is_card: bool) -> int:
    """The lowest number of its kind above that one: of cards 3, 7, 11, …, of all else 1, 5, 9, …"""
    return highest + 1 + ((3 if is_card else 1) - highest - 1) % 4


async def find(db: Queries, seq: int) -> Delivery | None:
    """The message of this number."""
    return await deliveries.find(db, HOST_SESSION_ID, seq)


def origin_of(delivery: Delivery) -> Origin:
    """Where a message went, for another one to the same chat."""
    queue = delivery.queue
    return Origin(
        channel_type=queue.channel_type,
        instance=queue.instance,
        platform_id=queue.platform_id,
        thread_id=delivery.thread_id,
    )
