"""A chat with a long queue gives way while people elsewhere are about, and only then."""

from __future__ import annotations

from nanohost.db.events import ChatKey
from nanohost.work.fair_share import ACTIVE_WINDOW_S, MAX_PAUSE_S, PAUSE_FACTOR, FairShare

FLOODED, QUIET = ChatKey("fake", "default", "flooded"), ChatKey("fake", "default", "quiet")


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_chat_that_is_alone_never_pauses() -> None:
    fair = FairShare(monotonic=Time())
    for _ in range(3):
        fair.record_event(FLOODED)
    assert fair.pause_s(FLOODED, 0.1) == 0


def test_a_backlog_pauses_while_people_elsewhere_are_about_however_much_comes_in_meanwhile() -> None:
    fair = FairShare(monotonic=Time())
    fair.record_event(QUIET)
    for _ in range(3):
        fair.record_event(FLOODED)
    assert fair.pause_s(FLOODED, 0.1) == PAUSE_FACTOR * 0.1
    assert fair.pause_s(FLOODED, 60) == MAX_PAUSE_S


def test_it_goes_on_at_full_speed_once_nobody_else_is_about() -> None:
    time = Time()
    fair = FairShare(monotonic=time)
    fair.record_event(QUIET)
    time.now += ACTIVE_WINDOW_S + 1
    fair.record_event(FLOODED)
    assert fair.pause_s(FLOODED, 0.1) == 0
