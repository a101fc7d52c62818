"""How a message of the agent goes out on a channel: by the channel's own abilities, else in words. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from nanohost.channel_api import (
    Button,
    Capabilities,
    Channel,
    Edits,
    Reacts,
    SendsCards,
    SendsFiles,
)
from nanohost.delivery.marks import disarmed
from nanohost.rendering import Part
from nanohost.rendering.form import length
from nanohost.store.cards import value_of
from nanohost.store.deliveries import Delivery, StoredPart
from nanohost_protocol.payloads import (
    CardOut,
    EditOut,
    FileOut,
    OutPayload,
    QuestionOut,
    ReactionOut,
)

NEAREST = {
    "✅": "👍",
    "✔": "👍",
    "☑": "👍",
    "🆗": "👌",
    "👌": "👍",
    "🙂": "👍",
    "😀": "👍",
    "❤": "👍",
    "❌": "👎",
    "✖": "👎",
    "🚫": "👎",
    "⏳": "🤔",
    "⌛": "🤔",
    "⌚": "🤔",
    "🔍": "👀",
    "🔎": "👀",
    "🤔": "👀",
    "👁": "👀",
    "📝": "✍",
    "✏": "✍",
    "🚀": "🔥",
    "🎊": "🎉",
    "🥳": "🎉",
    "🎉": "👏",
    "😂": "🤣",
}
"""What comes closest where the platform lacks an emoji; followed until there is one that it has."""
LONGEST_EMOJI = 32
"""Characters: what people see as one is made of up to a dozen."""
_VARIATION = "\ufe0f"
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal or a page obeys, turns the line around by, or cannot be sent."""


class Manner(StrEnum):
    """What the channel is asked to do with the last part of a message; parts before that are words."""

    WORDS = "words"
    CARD = "card"
    FILE = "file"
    EDIT = "edit"
    REACTION = "reaction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The buttons of a card, and what its text has to say because they cannot."""

    buttons: tuple[Button, ...]
    legend: tuple[str, ...] = ()


def manner_of(payload: OutPayload, channel: Channel, *, file_size: int | None = None) -> Manner:
    """`file_size` in bytes; None: there is no such file."""
    can = channel.capabilities
    match payload:
        case CardOut(options=options) | QuestionOut(options=options):
            fits = isinstance(channel, SendsCards) and 0 < len(options) <= can.buttons
            return Manner.CARD if fits else Manner.WORDS
        case FileOut():
            fits = isinstance(channel, SendsFiles) and file_size is not None and 0 < file_size <= can.file_bytes
            return Manner.FILE if fits else Manner.WORDS
        case EditOut():
            return Manner.EDIT if isinstance(channel, Edits) else Manner.WORDS
        case ReactionOut(emoji=emoji):
            reacts = isinstance(channel, Reacts) and reaction(emoji, can.reactions) is not None
            return Manner.REACTION if reacts else Manner.WORDS
        case _:
            return Manner.WORDS


def choices(delivery: Delivery, options: Sequence[str], can: Capabilities) -> Choices:
    """Where a label is too long or there twice all are numbered, and the text lists them in full."""
    values = [value_of(delivery.lane.session_id, delivery.out_id, number) for number in range(1, len(options) + 1)]
    labels = [_readable(option) or str(number) for number, option in enumerate(options, 1)]
    needs_numbers = any(len(label) > can.button_label for label in labels) or len({*labels}) < len(labels)
    if needs_numbers:
        numbered = [f"{number}. {label}" for number, label in enumerate(labels, 1)]
        labels = [_shortened(label, can.button_label) for label in numbered]
    return Choices(
        buttons=tuple(Button(label=label, value=value) for label, value in zip(labels, values, strict=True)),
        legend=tuple(numbered) if needs_numbers else (),
    )


def reaction(emoji: str, known: frozenset[str] | None) -> str | None:
    """The emoji as the platform has it, else the nearest that it has. None: nothing comes near."""
    if emoji.isascii() or len(emoji) > LONGEST_EMOJI or _UNSHOWN.search(emoji):
        return None
    if known is None:
        return emoji
    spelled = {each.replace(_VARIATION, ""): each for each in known}
    wanted, tried = emoji.strip().replace(_VARIATION, ""), set[str]()
    while wanted not in spelled:
        tried.add(wanted)
        wanted = NEAREST.get(wanted, "")
        if not wanted or wanted in tried:
            return None
    return spelled[wanted]


def fits_a_caption(part: StoredPart | Part, can: Capabilities) -> bool:
    """Whether these words can ride along with a file."""
    text = part.plain if can.counted_after_parsing else part.text
    return length(text, can.text_unit) <= can.caption_limit


def _readable(option: str) -> str:
    """On one line, without what nobody sees; "" where nothing is left to be read."""
    label = " ".join(_UNSHOWN.sub(" ", disarmed(option)).split())
    return label if any(unicodedata.category(char)[0] not in "CZ" for char in label) else ""


def _shortened(label: str, limit: int) -> str:
    return label if len(label) <= limit else label[: max(limit - 1, 1)].rstrip() + "…"
