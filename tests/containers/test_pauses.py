"""How long a session waits after failed starts."""

from __future__ import annotations

from nanohost.containers.pool import StartBackoff
from nanohost.model import SessionId

SESSION, OTHER = SessionId("s1"), SessionId("s2")


def test_start_pauses_grow_from_zero_to_five_minutes_for_their_session_only() -> None:
    pauses = StartBackoff()
    waits = []
    for in_a_row in range(1, 10):
        assert pauses.record_failure(SESSION, now=100.0) == in_a_row
        waits.append(next(pauses.remaining_s(100.0), 0.0))
    assert waits == [0, 5, 10, 20, 40, 80, 160, 300, 300]
    assert pauses.can_start(OTHER, now=100.0)


def test_a_start_pause_ends_with_time_or_with_progress() -> None:
    pauses = StartBackoff()
    pauses.record_failure(SESSION, now=0.0)
    pauses.record_failure(SESSION, now=0.0)
    assert (pauses.can_start(SESSION, now=4.9), pauses.can_start(SESSION, now=5.0)) == (False, True)
    pauses.reset(SESSION)
    assert pauses.can_start(SESSION, now=0.0)
    assert pauses.record_failure(SESSION, now=0.0) == 1
