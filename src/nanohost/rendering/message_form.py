"""Defines the forms of messages, the units and limits of their length, and the parts of a message."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MIN_TEXT_LIMIT = 50
"""Below this a list marker, a fence or a single styled letter may not fit any more."""
MIN_ENTITIES = 10
"""Below this a letter in all styles within a quote may not fit any more."""


class Form(StrEnum):
    """How a message is marked up."""

    PLAIN = "plain"
    """Readable text with its addresses written out."""
    MARKDOWN = "markdown"
    """Markdown with tables, as GitHub reads it. What fits is left exactly as it was written."""
    TELEGRAM = "telegram"
    """Telegram's HTML parse mode."""
    SLACK_MARKDOWN = "slack-markdown"
    """Standard Markdown, for a markdown block of Slack."""
    SLACK = "slack"
    """Slack's own mrkdwn. The channel must not set link_names."""
    DISCORD = "discord"
    WHATSAPP = "whatsapp"


class Unit(StrEnum):
    """The unit in which a platform counts length."""

    CHARS = "chars"
    UTF16 = "utf16"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one message: at most `max_length`, counted in `unit`.

    `is_counted_after_parsing`: tags do not count and an entity counts as the character it stands for (Telegram).
    `max_entities`: how many stretches of one message the platform formats or links; what is beyond loses that. None:
    all. Raises ValueError for a limit below MIN_TEXT_LIMIT or MIN_ENTITIES.
    """

    max_length: int
    unit: Unit = Unit.CHARS
    is_counted_after_parsing: bool = False
    max_entities: int | None = None

    def __post_init__(self) -> None:
        if self.max_length < MIN_TEXT_LIMIT:
            raise ValueError(f"a message must be able to hold {MIN_TEXT_LIMIT} {self.unit}, not {self.max_length}")
        if self.max_entities is not None and self.max_entities < MIN_ENTITIES:
            raise ValueError(f"a message must be able to hold {MIN_ENTITIES} entities, not {self.max_entities}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePart:
    """One message. `plain` says the same without markup, within the same limit, for a platform that refuses `text`.

    Slack reads `&`, `<` and `>` in every text it is given: a channel escapes them before it sends `plain` there.
    """

    text: str
    plain: str


def text_length(text: str, unit: Unit) -> int:
    """Returns the length of a text as the platform counts it."""
    match unit:
        case Unit.CHARS:
            return len(text)
        case Unit.UTF16:
            return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2
        case Unit.BYTES:
            return len(text) if text.isascii() else len(text.encode())
