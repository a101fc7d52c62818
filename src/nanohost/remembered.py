"""What is known of many for a while, and of whoever is at rest no longer: it does not grow with all there ever were."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST_AT_REST = 1_000
"""Of those nothing is forgotten: to look at them all takes less than a millisecond."""


class Remembered(Generic[K, V]):
    """By key. `is_at_rest` says of a value that it is as good as none; those go when there are many. All are looked
    through only when there are twice as many as were left the last time, so that one more costs the same always."""

    def __init__(self, is_at_rest: Callable[[V], bool]) -> None:
        self._is_at_rest = is_at_rest
        self._values: dict[K, V] = {}
        self._most = MOST_AT_REST

    def get(self, key: K) -> V | None:
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        if key not in self._values and len(self._values) >= self._most:
            self._values = {key: value for key, value in self._values.items() if not self._is_at_rest(value)}
            self._most = max(MOST_AT_REST, 2 * len(self._values))
        self._values[key] = value

    def forget(self, key: K) -> None:
        self._values.pop(key, None)

    def items(self) -> list[tuple[K, V]]:
        return list(self._values.items())

    def __len__(self) -> int:
        return len(self._values)
