"""The event bus: says that something happened to whoever subscribed.

An event is a frozen value (see db/domain_events.py). Inside a transaction it is emitted with `tx.emit(event)` and
reaches its subscribers after the commit, never before and never when the transaction is undone. Outside of one it is
published at once. Promises: subscribers of a type hear in the order in which they subscribed; one that fails keeps no
other from hearing. Nothing is stored: an event that a kill loses only delays, because every subscriber also looks at
the database when it starts.
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
    """`handler` is called with each event of exactly this type. It must not block: it notes what is to be done."""

    event_type: type[E]
    handler: Callable[[E], object]


class EventBus:
    """One per store, in one event loop."""

    def __init__(self) -> None:
        self._subscribers: defaultdict[type, list[Callable[[Any], object]]] = defaultdict(list)

    def subscribe(self, event_type: type[E], handler: Callable[[E], object]) -> None:
        """From now on; see Subscription."""
        self._subscribers[event_type].append(handler)

    @contextmanager
    def subscribed(self, *subscriptions: Subscription[Any]) -> Iterator[None]:
        """While entered."""
        for one in subscriptions:
            self.subscribe(one.event_type, one.handler)
        try:
            yield
        finally:
            for one in subscriptions:
                self._subscribers[one.event_type].remove(one.handler)

    def publish(self, *events: object) -> None:
        """Tell the subscribers of each event now. Equal events are told once. Raises nothing."""
        for event in dict.fromkeys(events):
            for handler in tuple(self._subscribers.get(type(event), ())):
                try:
                    handler(event)
                except Exception:
                    _log.exception("event_handler_failed", event_type=type(event).__name__)
