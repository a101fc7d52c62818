"""A chat with a long queue pauses while people elsewhere are active, and only then."""

from __future__ import annotations

from nanohost.db.events import ChatKey
from nanohost.work.fair_share import ACTIVE_WINDOW_S, MAX_PAUSE_S, PAUSE_FACTOR, FairShare

FLOODED, QUIET = ChatKey("fake", "default", "flooded"), ChatKey("fake", "default", "quiet")


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_chat_without_others_never_pauses() -> None:
    fair = FairShare(monotonic=Time())
    for _ in range(3):
        fair.record_event(FLOODED)
    assert fair.pause_s(FLOODED, 0.1) == 0


def test_a_backlog_pauses_while_other_chats_are_active() -> None:
    fair = FairShare(monotonic=Time())
    fair.record_event(QUIET)
    for _ in range(3):
        fair.record_event(FLOODED)
    assert fair.pause_s(FLOODED, 0.1) == PAUSE_FACTOR * 0.1
    assert fair.pause_s(FLOODED, 60) == MAX_PAUSE_S


def test_a_chat_runs_at_full_speed_once_no_other_is_active() -> None:
    time = Time()
    fair = FairShare(monotonic=time)
    fair.record_event(QUIET)
    time.now += ACTIVE_WINDOW_S + 1
    fair.record_event(FLOODED)
    assert fair.pause_s(FLOODED, 0.1) == 0
