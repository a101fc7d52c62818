"""Limits how fast messages go to a platform: a little slower than its channel declares, and not while it asked to wait.

Promises: who waits for one chat holds up no other; lanes of one chat take turns in the order they came. A wait is no
attempt. In memory: a host that starts anew may be a little fast once, and is told so by the platform.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from nanohost.channel_api import Pace
from nanohost.clock import Clock
from nanohost.db.deliveries import DeliveryQueueKey

PACE_MARGIN = 1.1
"""How much slower than the platform allows: it counts when a message arrives, and two that leave us far enough apart
may arrive closer together. A tenth of a second covers the jitter of a line; being told to wait costs whole seconds."""
MAX_TRACKED_GATES = 1000
"""Chats; beyond that those that need not wait are forgotten."""

Sleep = Callable[[float], Awaitable[bool]]
"""Wait so many seconds. False: stop waiting, the host is closing."""


@dataclass(frozen=True, slots=True)
class WindowLimit:
    """At most `max_count` messages within `window_s` seconds, wherever they begin."""

    max_count: int
    window_s: float


def required_wait_s(limits: Sequence[WindowLimit], sent_at_s: Sequence[float], now: float) -> float:
    """How long the next message has to wait. `sent_at_s`: when the latest ones went out, oldest first; enough of
    them."""
    waits = [sent_at_s[-rule.max_count] + rule.window_s - now for rule in limits if len(sent_at_s) >= rule.max_count]
    return max([0.0, *waits])


def chat_limits(pace: Pace, *, is_group: bool) -> list[WindowLimit]:
    """What holds for one chat."""
    rules = []
    if pace.between_s:
        rules.append(WindowLimit(1, pace.between_s * PACE_MARGIN))
    if pace.a_minute_in_a_group and is_group:
        rules.append(WindowLimit(pace.a_minute_in_a_group, 60.0 * PACE_MARGIN))
    return rules


def channel_limits(pace: Pace) -> list[WindowLimit]:
    """What holds for all chats of one instance together."""
    return [WindowLimit(pace.a_second, 1.0 * PACE_MARGIN)] if pace.a_second else []


@dataclass(slots=True)
class _Gate:
    """One chat, or one channel. Who holds `lock` is the next to pass."""

    sent_at_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    paused_until_s: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def gate_wait_s(self, limits: Sequence[WindowLimit], now: float) -> float:
        return max(required_wait_s(limits, self.sent_at_s, now), self.paused_until_s - now)


class RateLimiter:
    """One per host."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gates: dict[tuple[str, ...], _Gate] = {}

    async def acquire(self, queue: DeliveryQueueKey, pace: Pace, *, is_group: bool, sleep: Sleep) -> bool:
        """Wait until this chat may get a message; it counts as sent then. False: the nap was ended."""
        of_chat, of_channel = chat_limits(pace, is_group=is_group), channel_limits(pace)
        if not of_chat and not of_channel and not self._gates:
            return True
        passes_chat = await self._wait_at_gate(_chat_key(queue), of_chat, sleep)
        return passes_chat and await self._wait_at_gate(_channel_key(queue), of_channel, sleep)

    def record_response(self, queue: DeliveryQueueKey) -> None:
        """What this chat's turn was for is over, whatever the platform answered: the pace goes on from now. It may have
        arrived just now, and what follows at once would come too soon however early this one left."""
        gate = self._gates.get(_chat_key(queue))
        if gate is not None and gate.sent_at_s:
            gate.sent_at_s[-1] = self._clock.monotonic()

    def pause(self, queue: DeliveryQueueKey, seconds: float, *, whole_channel: bool) -> None:
        """The platform said to wait: this chat does, or all of its channel do."""
        gate = self._gate(_channel_key(queue) if whole_channel else _chat_key(queue))
        gate.paused_until_s = max(gate.paused_until_s, self._clock.monotonic() + seconds)

    def reset(self, queue: DeliveryQueueKey) -> None:
        """An operator wants this chat's next message tried at once. Who waits already waits on."""
        for key in (_chat_key(queue), _channel_key(queue)):
            self._gates.pop(key, None)

    async def _wait_at_gate(self, key: tuple[str, ...], limits: Sequence[WindowLimit], sleep: Sleep) -> bool:
        if not limits and key not in self._gates:
            return True
        gate = self._gate(key)
        async with gate.lock:
            while (wait := gate.gate_wait_s(limits, self._clock.monotonic())) > 0:
                if not await sleep(wait):
                    return False
            if limits:
                gate.sent_at_s.append(self._clock.monotonic())
        return True

    def _gate(self, key: tuple[str, ...]) -> _Gate:
        if key not in self._gates:
            if len(self._gates) >= MAX_TRACKED_GATES:
                self._evict_idle_gates()
            self._gates[key] = _Gate()
        return self._gates[key]

    def _evict_idle_gates(self) -> None:
        now = self._clock.monotonic()
        for key, gate in list(self._gates.items()):
            latest = max(gate.paused_until_s, gate.sent_at_s[-1] + 60.0 * PACE_MARGIN if gate.sent_at_s else 0.0)
            if latest <= now and not gate.lock.locked():
                del self._gates[key]


def _chat_key(queue: DeliveryQueueKey) -> tuple[str, ...]:
    return (queue.channel_type, queue.instance, queue.platform_id)


def _channel_key(queue: DeliveryQueueKey) -> tuple[str, ...]:
    return (queue.channel_type, queue.instance)
