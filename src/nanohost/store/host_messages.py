"""What the host itself says to people, outside of any conversation with an agent: cards, answers to those who run it.

Such messages are entries of the ledger like an agent's, of a session that is none (`HOST`): the same sender, the same
promises. Their numbers are odd, as those of all that is said; each is above all before it, and says in which lane of
its chat it is (see LaneKey.cards).
"""

from __future__ import annotations

from datetime import datetime

from nanohost.model import HOST
from nanohost.store import deliveries
from nanohost.store.database import Queries, Transaction
from nanohost.store.deliveries import Delivery, DeliveryStatus, LaneKey
from nanohost_protocol.payloads import CardOut, ChatOut, EditOut, encode
from nanohost_protocol.rows import Origin, OutKind

Said = ChatOut | CardOut | EditOut

HIGHEST = "SELECT ifnull(max(seq), 0) AS seq FROM deliveries WHERE session_id = ?"
BY_OUT_ID = "SELECT seq FROM deliveries WHERE session_id = ? AND out_id = ?"

_KINDS = {ChatOut: OutKind.CHAT, CardOut: OutKind.CARD, EditOut: OutKind.EDIT}


async def say(
    tx: Transaction, place: Origin, said: Said, *, out_id: str, now: datetime, about_cards: bool = False
) -> Delivery:
    """Enter a message. Emits LaneHasWork.

    `out_id` names what is said: said again under the same one, it is the first one's entry that comes back. An answer
    replies to the message that `place` names, if it names one. An EditOut names the number of an earlier message, and
    goes the way that one went. `about_cards`: it is about what cards are about, and goes out by their lane.
    """
    earlier = await tx.one(BY_OUT_ID, (HOST, out_id))
    if earlier is not None:
        found = await deliveries.find(tx, HOST, earlier["seq"])
        assert found is not None, "it was just seen"
        return found
    row = await tx.one(HIGHEST, (HOST,))
    assert row is not None, "an aggregate has a row"
    match said:
        case CardOut():
            is_card = True
        case EditOut(message=number):
            is_card = deliveries.is_card_number(number)
        case ChatOut():
            is_card = about_cards
    delivery = Delivery(
        lane=LaneKey(HOST, place.channel_type, place.instance, place.platform_id, is_card),
        seq=_next(row["seq"], is_card=is_card),
        out_id=out_id,
        kind=_KINDS[type(said)],
        thread_id=place.thread_id,
        reply_to=place.platform_message_id,
        content=encode(said),
        status=DeliveryStatus.PENDING,
        created_at=now,
    )
    await deliveries.add(tx, delivery)
    return delivery


async def withdraw(tx: Transaction, said: ChatOut, *, reason: str, now: datetime) -> None:
    """It is so no more: nobody who has not heard these words yet hears them."""
    await deliveries.withdraw_words(tx, HOST, encode(said), reason, now)


def _next(highest: int, *, is_card: bool) -> int:
    """The lowest number of its kind above that one: of cards 3, 7, 11, …, of all else 1, 5, 9, …"""
    return highest + 1 + ((3 if is_card else 1) - highest - 1) % 4


async def find(db: Queries, seq: int) -> Delivery | None:
    """The message of this number."""
    return await deliveries.find(db, HOST, seq)


def place_of(delivery: Delivery) -> Origin:
    """Where a message went, for another one to the same chat."""
    lane = delivery.lane
    return Origin(
        channel_type=lane.channel_type,
        instance=lane.instance,
        platform_id=lane.platform_id,
        thread_id=delivery.thread_id,
    )
