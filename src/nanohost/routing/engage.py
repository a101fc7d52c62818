"""Does a wiring's agent take part in this event? Pure."""

from __future__ import annotations

import re

from nanohost.channel_api import InboundEvent
from nanohost.model import EngageMode, Wiring

ALWAYS = "."
LOOKED_AT = 4096
"""Characters of a text that a pattern is tried on, from its beginning. While Python matches, the whole host stands
still, and an innocent pattern (`.*bot`) takes time that grows with the square of the text: 25 s for the longest."""


def engages(wiring: Wiring, event: InboundEvent, *, has_session: bool) -> bool:
    """`has_session`: this wiring has a session in the event's thread already (what makes a mention stick)."""
    if wiring.engage_mode is EngageMode.PATTERN:
        return wiring.engage_pattern == ALWAYS or _matches(wiring.engage_pattern, event.text)
    if event.mentions_bot or not event.is_group:
        return True
    return wiring.engage_mode is EngageMode.MENTION_STICKY and has_session


def _matches(pattern: str, text: str) -> bool:
    return re.search(pattern, text[:LOOKED_AT]) is not None
