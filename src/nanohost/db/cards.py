"""Makes the values of card buttons, and finds the choice that a value stands for.

A button's value is `q:KEY:NUMBER`, which fits every platform and reveals nothing. Its meaning is only in the database,
so a forged value has none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nanohost.db import deliveries, moved_chats
from nanohost.db.database import Queries
from nanohost.db.deliveries import Delivery
from nanohost.db.events import ChatKey
from nanohost.model import SessionId
from nanohost_protocol.errors import PayloadError
from nanohost_protocol.payloads import CardOut, QuestionOut, decode_out

_BUTTON_VALUE = re.compile(r"q:([a-z0-9]{20}):([0-9]{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class CardChoice:
    """A choice: the card's message, and the label in the agent's own words and by its number, from 1.
    `chat`: the chat to which the card was sent, by its current id."""

    card: Delivery
    label: str
    number: int
    chat: ChatKey

    def was_sent_to(self, chat: ChatKey) -> bool:
        """Whether the card was sent to this chat: a press from another chat does not count."""
        return chat in (self.card.queue.chat, self.chat)


def button_value(session: SessionId, out_id: str, number: int) -> str:
    """Returns the value of the button with this number, from 1."""
    return f"q:{deliveries.card_key(session, out_id)}:{number}"


def options_of(kind: str, content: str) -> tuple[str, ...]:
    """Returns the options of a message; none if it is not a card."""
    try:
        payload = decode_out(kind, content)
    except PayloadError:
        return ()
    return payload.options if isinstance(payload, CardOut | QuestionOut) else ()


async def find_choice(db: Queries, value: str | None) -> CardChoice | None:
    """Returns the choice of the button with this value; None if no known card has it."""
    match = _BUTTON_VALUE.fullmatch(value or "")
    card = await deliveries.find_by_card(db, match[1]) if match else None
    if match is None or card is None:
        return None
    options = options_of(card.kind, card.content)
    number = int(match[2])
    if not 0 < number <= len(options):
        return None
    return CardChoice(
        card=card, label=options[number - 1], number=number, chat=await moved_chats.current_chat(db, card.queue.chat)
    )
