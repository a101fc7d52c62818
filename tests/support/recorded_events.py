"""Domain events recorded by a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from nanohost.work.event_bus import EventBus

E = TypeVar("E")


def record_events(bus: EventBus, kind: type[E], transform: Callable[[E], Any] = lambda event: event) -> list[Any]:
    """The events of this type from now on, in order; `transform` is applied to each."""
    found: list[Any] = []
    bus.subscribe(kind, lambda event: found.append(transform(event)))
    return found
