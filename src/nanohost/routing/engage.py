"""Does a wiring's agent take part in this event? Pure."""

from __future__ import annotations

from nanohost.channel_api import EventKind, InboundEvent
from nanohost.chat_commands.gate import is_chat_command
from nanohost.model import EngageMode, Wiring
from nanohost.patterns import matches

MATCH_ALL = "."
MAX_MATCHED_CHARS = 4096
"""Characters of a text that a pattern is tried on, from its beginning: the whole host stands still meanwhile."""


def should_engage(wiring: Wiring, event: InboundEvent, *, has_session: bool) -> bool:
    """`has_session`: this wiring has a session in the event's thread already (what makes a mention stick). Raises
    PatternError if the wiring's pattern is none."""
    if wiring.engage_mode is EngageMode.PATTERN:
        return wiring.engage_pattern == MATCH_ALL or matches(wiring.engage_pattern, event.text[:MAX_MATCHED_CHARS])
    return is_addressed(event) or (wiring.engage_mode is EngageMode.MENTION_STICKY and has_session)


def is_addressed(event: InboundEvent) -> bool:
    """Whether we are spoken to: mentioned, or written to directly."""
    return event.mentions_bot or not event.is_group


def is_command(event: InboundEvent) -> bool:
    """A command for us, typed: it need not fit a wiring's pattern. What was edited later is none."""
    return event.kind is EventKind.MESSAGE and is_addressed(event) and is_chat_command(event.text)
