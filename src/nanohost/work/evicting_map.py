"""Provides a map that evicts values without effect, so that it does not grow with the number of keys ever used."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MIN_CAPACITY = 1_000
"""Below this size nothing is evicted: to check all entries takes less than a millisecond."""


class EvictingMap(Generic[K, V]):
    """A map. `is_evictable`: whether a value is as good as none. Such values are evicted when the map has twice as many
    entries as after the last eviction, so that `put` has constant amortized cost."""

    def __init__(self, is_evictable: Callable[[V], bool]) -> None:
        self._is_evictable = is_evictable
        self._values: dict[K, V] = {}
        self._capacity = MIN_CAPACITY

    def get(self, key: K) -> V | None:
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        if key not in self._values and len(self._values) >= self._capacity:
            self._values = {key: value for key, value in self._values.items() if not self._is_evictable(value)}
            self._capacity = max(MIN_CAPACITY, 2 * len(self._values))
        self._values[key] = value

    def remove(self, key: K) -> None:
        self._values.pop(key, None)

    def items(self) -> list[tuple[K, V]]:
        return list(self._values.items())

    def __len__(self) -> int:
        return len(self._values)
