"""Provides a dictionary that keeps only the newest entries, such as how recent containers ended."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(OrderedDict[K, V]):
    """A dictionary that drops the oldest entry beyond `MAX_ENTRIES`."""

    MAX_ENTRIES = 256

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > self.MAX_ENTRIES:
            self.popitem(last=False)
