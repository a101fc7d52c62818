"""Delivers domain events to their subscribers.

An event is a frozen value (see db/domain_events.py). Inside a transaction it is emitted with `tx.emit(event)` and
delivered after the commit, never before, and never after a rollback. Outside of a transaction it is published at once.
Promises: subscribers of a type are called in the order in which they subscribed; one that fails does not affect the
others. Events are not stored: an event that a kill loses only causes a delay, because every subscriber also reads the
database when it starts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

E = TypeVar("E")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Subscription(Generic[E]):
    """`handler` is called with each event of exactly this type. It must not block: it only schedules work."""

    event_type: type[E]
    handler: Callable[[E], object]


class EventBus:
    """One per store, in one event loop."""

    def __init__(self) -> None:
        self._subscribers: defaultdict[type, list[Callable[[Any], object]]] = defaultdict(list)

    def subscribe(self, event_type: type[E], handler: Callable[[E], object]) -> None:
        """Call `handler` with each event of the type from now on; see Subscription."""
        self._subscribers[event_type].append(handler)

    @contextmanager
    def subscribed(self, *subscriptions: Subscription[Any]) -> Iterator[None]:
        """Keep the subscriptions while entered."""
        for one in subscriptions:
            self.subscribe(one.event_type, one.handler)
        try:
            yield
        finally:
            for one in subscriptions:
                self._subscribers[one.event_type].remove(one.handler)

    def publish(self, *events: object) -> None:
        """Call the subscribers of each event now. Equal events are delivered once. Never raises."""
        for event in dict.fromkeys(events):
            for handler in tuple(self._subscribers.get(type(event), ())):
                try:
                    handler(event)
                except Exception:
                    _log.exception("event_handler_failed", event_type=type(event).__name__)
