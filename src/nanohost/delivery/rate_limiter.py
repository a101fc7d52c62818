"""Limits how fast messages are sent to a platform: slightly slower than its channel declares.

Promises: waiting for one chat delays no other; the queues of one chat take turns in order of arrival. A wait is no
attempt. The state is in memory: a restarted host may once be too fast, and the platform then tells it to wait.
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
"""How much slower than the platform allows. The platform counts arrivals, and two messages may arrive closer together
than they were sent. A tenth of a second covers that jitter; exceeding the limit costs whole seconds."""
MAX_TRACKED_GATES = 1000
"""Chats; above that, chats that need not wait are forgotten."""

Sleep = Callable[[float], Awaitable[bool]]
"""Waits the given seconds. Returns False if the host is closing."""


@dataclass(frozen=True, slots=True)
class WindowLimit:
    """At most `max_count` messages within any `window_s` seconds."""

    max_count: int
    window_s: float


def required_wait_s(limits: Sequence[WindowLimit], sent_at_s: Sequence[float], now: float) -> float:
    """Returns how long the next message has to wait. `sent_at_s`: times of the latest messages, oldest first."""
    waits = [sent_at_s[-rule.max_count] + rule.window_s - now for rule in limits if len(sent_at_s) >= rule.max_count]
    return max([0.0, *waits])


def chat_limits(pace: Pace, *, is_group: bool) -> list[WindowLimit]:
    """Returns the limits of one chat."""
    rules = []
    if pace.between_s:
        rules.append(WindowLimit(1, pace.between_s * PACE_MARGIN))
    if pace.a_minute_in_a_group and is_group:
        rules.append(WindowLimit(pace.a_minute_in_a_group, 60.0 * PACE_MARGIN))
    return rules


def channel_limits(pace: Pace) -> list[WindowLimit]:
    """Returns the limits of all chats of one instance together."""
    return [WindowLimit(pace.a_second, 1.0 * PACE_MARGIN)] if pace.a_second else []


@dataclass(slots=True)
class _Gate:
    """The state of one chat or one channel. The task that holds `lock` sends next."""

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
        """Waits until this chat may get a message, and counts it as sent. Returns False if the sleep was ended."""
        of_chat, of_channel = chat_limits(pace, is_group=is_group), channel_limits(pace)
        if not of_chat and not of_channel and not self._gates:
            return True
        passes_chat = await self._wait_at_gate(_chat_key(queue), of_chat, sleep)
        return passes_chat and await self._wait_at_gate(_channel_key(queue), of_channel, sleep)

    def record_response(self, queue: DeliveryQueueKey) -> None:
        """Records the end of a send, whatever the platform answered: the next wait counts from now.

        The message may have arrived only now, and an immediate next one would be too soon.
        """
        gate = self._gates.get(_chat_key(queue))
        if gate is not None and gate.sent_at_s:
            gate.sent_at_s[-1] = self._clock.monotonic()

    def pause(self, queue: DeliveryQueueKey, seconds: float, *, whole_channel: bool) -> None:
        """Pauses this chat, or its whole channel, because the platform asked to wait."""
        gate = self._gate(_channel_key(queue) if whole_channel else _chat_key(queue))
        gate.paused_until_s = max(gate.paused_until_s, self._clock.monotonic() + seconds)

    def reset(self, queue: DeliveryQueueKey) -> None:
        """Ends the pause of this chat, so that an operator's resend is tried at once. Running waits go on."""
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
