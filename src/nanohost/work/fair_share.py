"""Shares the event loop and the database writer between chats: a chat with a long queue pauses while others are active.

Promises: a chat that is alone runs at full speed. While other chats are active, a backlog runs only a part of the time,
so that an answer in another chat takes at most about twice as long. Never: pauses a chat for a single event.

It uses the machine's time and not the host's clock, because it shares computing time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable

ACTIVE_WINDOW_S = 5.0
"""For how long a chat is active after an event: about as long as people wait for an answer."""
PAUSE_FACTOR = 3
"""A backlog pauses so many times as long as it worked: it runs a quarter of the time."""
MAX_PAUSE_S = 0.5


class FairShare:
    """One per host. `monotonic`: the monotonic time in seconds; tests replace it."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last_event: tuple[Hashable, float] = (None, float("-inf"))
        self._last_other_event = float("-inf")
        """When the last event of any chat but that of `_last_event` came."""

    def record_event(self, chat: Hashable) -> None:
        """Record a new event of the chat."""
        last, at = self._last_event
        if chat != last:
            self._last_other_event = at
        self._last_event = (chat, self._monotonic())

    def pause_s(self, chat: Hashable, worked_s: float) -> float:
        """Returns how long a backlog of this chat pauses after it worked for `worked_s`."""
        last, at = self._last_event
        others = self._last_other_event if last == chat else at
        if self._monotonic() - others > ACTIVE_WINDOW_S:
            return 0.0
        return min(PAUSE_FACTOR * worked_s, MAX_PAUSE_S)

    async def yield_to_others(self, chat: Hashable, worked_s: float) -> None:
        await asyncio.sleep(self.pause_s(chat, worked_s))
