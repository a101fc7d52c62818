"""Does a wiring's agent take part in this event? Pure."""

from __future__ import annotations

import re

from nanohost.channel_api import InboundEvent
from nanohost.model import EngageMode, Wiring

ALWAYS = "."


def engages(wiring: Wiring, event: InboundEvent, *, has_session: bool) -> bool:
    """`has_session`: this wiring has a session in the event's thread already (what makes a mention stick)."""
    if wiring.engage_mode is EngageMode.PATTERN:
        return wiring.engage_pattern == ALWAYS or re.search(wiring.engage_pattern, event.text) is not None
    if event.mentions_bot or not event.is_group:
        return True
    return wiring.engage_mode is EngageMode.MENTION_STICKY and has_session
