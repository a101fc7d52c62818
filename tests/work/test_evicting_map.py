"""Idle entries are evicted once there are many."""

from __future__ import annotations

from nanohost.work.evicting_map import MIN_CAPACITY, EvictingMap


def test_a_large_map_evicts_idle_entries_and_keeps_active_ones() -> None:
    known = EvictingMap[int, bool](lambda is_at_rest: is_at_rest)
    for number in range(20 * MIN_CAPACITY):
        known.put(number, number % 100 != 0)
    assert len(known) < 2 * MIN_CAPACITY
    assert [known.get(number) for number in range(0, 20 * MIN_CAPACITY, 100)] == [False] * (20 * MIN_CAPACITY // 100)


def test_entries_are_scanned_rarely_however_many_are_active() -> None:
    looked = 0

    def is_at_rest(_: int) -> bool:
        nonlocal looked
        looked += 1
        return False

    known = EvictingMap[int, int](is_at_rest)
    for number in range(10 * MIN_CAPACITY):
        known.put(number, number)
    assert looked <= 2 * len(known)


def test_a_small_map_keeps_every_entry() -> None:
    known = EvictingMap[str, int](lambda _: True)
    known.put("a", 1)
    known.put("b", 2)
    known.put("a", 3)
    known.remove("b")
    known.remove("nobody")
    assert (known.items(), known.get("b")) == ([("a", 3)], None)
