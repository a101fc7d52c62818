"""How fast messages go to a platform: a little slower than its channel declares, and not at all where it said to wait.

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
from nanohost.store.deliveries import LaneKey

MARGIN = 1.1
"""How much slower than the platform allows: it counts when a message arrives, and two that leave us far enough apart
may arrive closer together. A tenth of a second covers the jitter of a line; being told to wait costs whole seconds."""
MOST_REMEMBERED = 1000
"""Chats; beyond that those that need not wait are forgotten."""

Nap = Callable[[float], Awaitable[bool]]
"""Wait so many seconds. False: stop waiting, the host is closing."""


@dataclass(frozen=True, slots=True)
class Rule:
    """At most `most` messages within `within_s` seconds, wherever they begin."""

    most: int
    within_s: float


def wait_s(rules: Sequence[Rule], sent: Sequence[float], now: float) -> float:
    """How long the next message has to wait. `sent`: when the latest ones went out, oldest first; enough of them."""
    waits = [sent[-rule.most] + rule.within_s - now for rule in rules if len(sent) >= rule.most]
    return max([0.0, *waits])


def chat_rules(pace: Pace, *, is_group: bool) -> list[Rule]:
    """What holds for one chat."""
    rules = []
    if pace.between_s:
        rules.append(Rule(1, pace.between_s * MARGIN))
    if pace.a_minute_in_a_group and is_group:
        rules.append(Rule(pace.a_minute_in_a_group, 60.0 * MARGIN))
    return rules


def channel_rules(pace: Pace) -> list[Rule]:
    """What holds for all chats of one instance together."""
    return [Rule(pace.a_second, 1.0 * MARGIN)] if pace.a_second else []


@dataclass(slots=True)
class _Gate:
    """One chat, or one channel. Who holds `turn` is the next to pass."""

    sent: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    paused_until: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def wait_s(self, rules: Sequence[Rule], now: float) -> float:
        return max(wait_s(rules, self.sent, now), self.paused_until - now)


class Pacing:
    """One per host."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gates: dict[tuple[str, ...], _Gate] = {}

    async def turn(self, lane: LaneKey, pace: Pace, *, is_group: bool, nap: Nap) -> bool:
        """Wait until this chat may get a message; it counts as sent then. False: the nap was ended."""
        of_chat, of_channel = chat_rules(pace, is_group=is_group), channel_rules(pace)
        if not of_chat and not of_channel and not self._gates:
            return True
        passes_chat = await self._pass(_chat(lane), of_chat, nap)
        return passes_chat and await self._pass(_channel(lane), of_channel, nap)

    def answered(self, lane: LaneKey) -> None:
        """What this chat's turn was for is over, whatever the platform answered: the pace goes on from now. It may have
        arrived just now, and what follows at once would come too soon however early this one left."""
        gate = self._gates.get(_chat(lane))
        if gate is not None and gate.sent:
            gate.sent[-1] = self._clock.monotonic()

    def pause(self, lane: LaneKey, seconds: float, *, whole_channel: bool) -> None:
        """The platform said to wait: this chat does, or all of its channel do."""
        gate = self._gate(_channel(lane) if whole_channel else _chat(lane))
        gate.paused_until = max(gate.paused_until, self._clock.monotonic() + seconds)

    def lift(self, lane: LaneKey) -> None:
        """An operator wants this chat's next message tried at once. Who waits already waits on."""
        for key in (_chat(lane), _channel(lane)):
            self._gates.pop(key, None)

    async def _pass(self, key: tuple[str, ...], rules: Sequence[Rule], nap: Nap) -> bool:
        if not rules and key not in self._gates:
            return True
        gate = self._gate(key)
        async with gate.turn:
            while (wait := gate.wait_s(rules, self._clock.monotonic())) > 0:
                if not await nap(wait):
                    return False
            if rules:
                gate.sent.append(self._clock.monotonic())
        return True

    def _gate(self, key: tuple[str, ...]) -> _Gate:
        if key not in self._gates:
            if len(self._gates) >= MOST_REMEMBERED:
                self._forget_those_at_rest()
            self._gates[key] = _Gate()
        return self._gates[key]

    def _forget_those_at_rest(self) -> None:
        now = self._clock.monotonic()
        for key, gate in list(self._gates.items()):
            latest = max(gate.paused_until, gate.sent[-1] + 60.0 * MARGIN if gate.sent else 0.0)
            if latest <= now and not gate.turn.locked():
                del self._gates[key]


def _chat(lane: LaneKey) -> tuple[str, ...]:
    return (lane.channel_type, lane.instance, lane.platform_id)


def _channel(lane: LaneKey) -> tuple[str, ...]:
    return (lane.channel_type, lane.instance)
