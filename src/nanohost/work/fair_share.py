"""Chats share one event loop and one writer: who has a long queue gives way while people elsewhere are about.

Promises: a chat that is alone goes at full speed; with others about, what has a backlog works a part of the time and
pauses for the rest, so that an answer elsewhere takes at most about twice as long. Never: a pause for what came singly.
Its times are the machine's, not the host's clock: it shares out computing time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable

ACTIVE_WINDOW_S = 5.0
"""For how long after an event people are about in a chat: as long as they wait for its answer, as a rule."""
PAUSE_FACTOR = 3
"""So many times as long as it worked a backlog pauses: a quarter of the time is its own."""
MAX_PAUSE_S = 0.5


class FairShare:
    """One per host. `monotonic`: seconds that only grow; replaced by tests, as `sleep` is."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last_event: tuple[Hashable, float] = (None, float("-inf"))
        self._last_other_event = float("-inf")
        """The last event of any chat but that of `_last`."""

    def record_event(self, chat: Hashable) -> None:
        """The chat has a new event."""
        last, at = self._last_event
        if chat != last:
            self._last_other_event = at
        self._last_event = (chat, self._monotonic())

    def pause_s(self, chat: Hashable, worked_s: float) -> float:
        """How long a backlog of this chat is to pause after it was worked on for `worked_s`."""
        last, at = self._last_event
        others = self._last_other_event if last == chat else at
        if self._monotonic() - others > ACTIVE_WINDOW_S:
            return 0.0
        return min(PAUSE_FACTOR * worked_s, MAX_PAUSE_S)

    async def yield_to_others(self, chat: Hashable, worked_s: float) -> None:
        await asyncio.sleep(self.pause_s(chat, worked_s))
