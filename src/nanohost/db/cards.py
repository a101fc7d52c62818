"""The buttons of cards: what each is worth, and which choice of which message that stands for.

A button's value is `q:KEY:NUMBER`: it fits every platform, and tells nothing. What it means is on record here alone, so
a value that was made up means nothing.
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
    """What somebody chose: the message it was on, and the choice in the agent's own words and by its number, from 1.
    `chat`: where the card was sent to, as that is called now."""

    card: Delivery
    label: str
    number: int
    chat: ChatKey

    def was_sent_to(self, chat: ChatKey) -> bool:
        """Whether the card was sent to this chat: a press that comes from another one is none."""
        return chat in (self.card.queue.chat, self.chat)


def button_value(session: SessionId, out_id: str, number: int) -> str:
    """The value of the button with this number, from 1."""
    return f"q:{deliveries.card_key(session, out_id)}:{number}"


def options_of(kind: str, content: str) -> tuple[str, ...]:
    """What a message offers to choose from; nothing, for one that is no card."""
    try:
        payload = decode_out(kind, content)
    except PayloadError:
        return ()
    return payload.options if isinstance(payload, CardOut | QuestionOut) else ()


async def find_choice(db: Queries, value: str | None) -> CardChoice | None:
    """What the button of this value stands for. None: no card that is known has it."""
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
