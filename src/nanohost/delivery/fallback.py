"""Decides how a message is sent on a channel: by the channel's capabilities, else as text. Pure."""

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
from nanohost.db.cards import button_value
from nanohost.db.deliveries import Delivery, DeliveryPart
from nanohost.delivery.host_header import escape_host_header
from nanohost.rendering import MessagePart
from nanohost.rendering.message_form import text_length
from nanohost_protocol.payloads import (
    CardOut,
    EditOut,
    FileOut,
    OutPayload,
    QuestionOut,
    ReactionOut,
)

EMOJI_FALLBACKS = {
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
"""The nearest emoji if the platform lacks one; followed until the platform supports it."""
MAX_EMOJI_CHARS = 32
"""Characters: one visible emoji consists of up to a dozen."""
_VARIATION_SELECTOR = "\ufe0f"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, characters that change the writing direction, and those that cannot be sent."""


class SendMode(StrEnum):
    """How the channel sends the last part of a message; earlier parts are text."""

    TEXT = "words"
    CARD = "card"
    FILE = "file"
    EDIT = "edit"
    REACTION = "reaction"


@dataclass(frozen=True, slots=True, kw_only=True)
class ButtonLayout:
    """The buttons of a card, and the lines that its text needs because the labels are too short."""

    buttons: tuple[Button, ...]
    legend: tuple[str, ...] = ()


def choose_send_mode(payload: OutPayload, channel: Channel, *, file_size: int | None = None) -> SendMode:
    """Returns how to send the message. `file_size` in bytes; None: there is no such file."""
    can = channel.capabilities
    match payload:
        case CardOut(options=options) | QuestionOut(options=options):
            fits = isinstance(channel, SendsCards) and 0 < len(options) <= can.buttons
            return SendMode.CARD if fits else SendMode.TEXT
        case FileOut():
            fits = isinstance(channel, SendsFiles) and file_size is not None and 0 < file_size <= can.file_bytes
            return SendMode.FILE if fits else SendMode.TEXT
        case EditOut():
            return SendMode.EDIT if isinstance(channel, Edits) else SendMode.TEXT
        case ReactionOut(emoji=emoji):
            reacts = isinstance(channel, Reacts) and map_reaction(emoji, can.reactions) is not None
            return SendMode.REACTION if reacts else SendMode.TEXT
        case _:
            return SendMode.TEXT


def lay_out_buttons(delivery: Delivery, options: Sequence[str], capabilities: Capabilities) -> ButtonLayout:
    """Returns the buttons. If a label is too long or not unique, all are numbered, and the text lists them in full."""
    values = [button_value(delivery.queue.session_id, delivery.out_id, number) for number in range(1, len(options) + 1)]
    labels = [_clean_label(option) or str(number) for number, option in enumerate(options, 1)]
    needs_numbers = any(len(label) > capabilities.button_label for label in labels) or len({*labels}) < len(labels)
    numbered = [f"{number}. {label}" for number, label in enumerate(labels, 1)] if needs_numbers else []
    labels = [_truncate(label, capabilities.button_label) for label in numbered or labels]
    return ButtonLayout(
        buttons=tuple(Button(label=label, value=value) for label, value in zip(labels, values, strict=True)),
        legend=tuple(numbered),
    )


def map_reaction(emoji: str, supported: frozenset[str] | None) -> str | None:
    """Returns the emoji in the platform's form, else the nearest that it supports; None if there is none."""
    if emoji.isascii() or len(emoji) > MAX_EMOJI_CHARS or _UNPRINTABLE.search(emoji):
        return None
    if supported is None:
        return emoji
    spelled = {each.replace(_VARIATION_SELECTOR, ""): each for each in supported}
    wanted, tried = emoji.strip().replace(_VARIATION_SELECTOR, ""), set[str]()
    while wanted not in spelled:
        tried.add(wanted)
        wanted = EMOJI_FALLBACKS.get(wanted, "")
        if not wanted or wanted in tried:
            return None
    return spelled[wanted]


def fits_caption(part: DeliveryPart | MessagePart, capabilities: Capabilities) -> bool:
    """Returns whether the text fits into the caption of a file."""
    text = part.plain if capabilities.counted_after_parsing else part.text
    return text_length(text, capabilities.text_unit) <= capabilities.caption_limit


def _clean_label(option: str) -> str:
    """Returns the label on one line without invisible characters; "" if nothing is left."""
    label = " ".join(_UNPRINTABLE.sub(" ", escape_host_header(option)).split())
    return label if any(unicodedata.category(char)[0] not in "CZ" for char in label) else ""


def _truncate(label: str, limit: int) -> str:
    return label if len(label) <= limit else label[: max(limit - 1, 1)].rstrip() + "…"
