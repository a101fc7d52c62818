"""Tracks the slots of containers, the queue of waiting sessions, and backoffs after failures.

It only decides; the container manager acts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from nanohost.containers.retry_policy import backoff
from nanohost.containers.stuck_policy import Stuck
from nanohost.model import LeaseId, SessionId
from nanohost.runtimes.runtime_api import Container
from nanohost.text.translation import lazy_gettext

STOP_GRACE_S = 8.0
"""The runner gives its turn back within a second of SIGTERM; the rest is for a slow disk."""


class SlotState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(slots=True, kw_only=True)
class Slot:
    """One session's container. `last_activity`: when it last wrote or received something, on the monotonic clock."""

    session_id: SessionId
    lease: LeaseId
    state: SlotState
    last_activity: float
    started_at: float
    container: Container | None = None
    is_busy: bool = True
    """Whether messages are claimed or due, so that it is not stopped as idle. True for a new container."""
    failure_reason: str = ""
    """Why it is stopped if that is a failure: then its end counts as a death."""
    wakes: int = 0
    """How often it was woken for work."""
    is_draining: bool = False
    """Whether it is to be stopped as soon as it has no open claims."""
    grace_s: float = STOP_GRACE_S


class ContainerPool:
    """At most `max_containers` containers; waiting sessions are served in order of arrival."""

    def __init__(self, max_containers: int) -> None:
        self._max_containers = max_containers
        self._slots: dict[SessionId, Slot] = {}
        self._queue: dict[SessionId, None] = {}
        """In order of arrival."""

    def __iter__(self) -> Iterator[Slot]:
        return iter(list(self._slots.values()))

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, session: SessionId) -> Slot | None:
        return self._slots.get(session)

    def add(self, slot: Slot) -> None:
        self._slots[slot.session_id] = slot

    def remove(self, session: SessionId) -> None:
        self._slots.pop(session, None)

    def enqueue(self, session: SessionId) -> None:
        """Queue a session for a container, once."""
        self._queue.setdefault(session)

    def queued(self) -> tuple[SessionId, ...]:
        return tuple(self._queue)

    def is_queued(self, session: SessionId) -> bool:
        return session in self._queue

    def next_startable(self) -> SessionId | None:
        """Remove from the queue and return the first session that may start now; None if there is none.

        There must be a free slot, and the session's old container must be gone.
        """
        if len(self._slots) >= self._max_containers:
            return None
        for session in self._queue:
            if session not in self._slots:
                del self._queue[session]
                return session
        return None

    def eviction_candidate(self) -> Slot | None:
        """Returns the container that has been idle the longest if a session waits and all slots are taken."""
        if not self._queue or len(self._slots) < self._max_containers:
            return None
        if any(slot.state is SlotState.STOPPING for slot in self._slots.values()):
            return None
        return min(self._idle_slots(), key=lambda slot: slot.last_activity, default=None)

    def idle_since(self, cutoff: float) -> list[Slot]:
        """Returns the idle containers without activity since `cutoff`."""
        return [slot for slot in self._idle_slots() if slot.last_activity <= cutoff]

    def _idle_slots(self) -> list[Slot]:
        return [slot for slot in self._slots.values() if slot.state is SlotState.RUNNING and not slot.is_busy]


MAX_BACKOFF_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureInfo:
    """The failures of a session's containers: how many in a row, why the last one, and when to retry."""

    count: int = 0
    retry_at: float = 0.0
    reason: str = ""


class StartBackoff:
    """Counts failures in a row by session. `now`: monotonic, in seconds."""

    def __init__(self) -> None:
        self._failures: dict[SessionId, FailureInfo] = {}

    def record_failure(self, session: SessionId, now: float, reason: str = "") -> int:
        """Record that a start failed, or that a container died. Returns how many failures there are in a row."""
        count = self.failure_count(session)
        wait_s = 0.0 if count == 0 else min(backoff(count - 1).total_seconds(), MAX_BACKOFF_S)
        self._failures[session] = FailureInfo(count=count + 1, retry_at=now + wait_s, reason=reason)
        return count + 1

    def failure_count(self, session: SessionId) -> int:
        """Returns the number of failures since the last progress."""
        return self._failures.get(session, FailureInfo()).count

    def can_start(self, session: SessionId, now: float) -> bool:
        """Whether a container may be started for the session now."""
        return self._failures.get(session, FailureInfo()).retry_at <= now

    def reset(self, session: SessionId) -> None:
        """Forget the session's failures, since its container made progress."""
        self._failures.pop(session, None)

    def remaining_s(self, now: float) -> Iterator[float]:
        """Returns the seconds until the end of each current backoff."""
        return (failure.retry_at - now for failure in self._failures.values() if failure.retry_at > now)

    def failures(self) -> dict[SessionId, FailureInfo]:
        """Returns the sessions that have failed since their last progress."""
        return dict(self._failures)


MAX_STOPS = 3
"""One stop may come from a stalled disk, a second from a leftover process. Between two stops a container started, which
needs writes to the same disk, so a disk that hangs cannot cause three."""
WINDOW_S = 3600.0


class MailboxStopCounter:
    """Counts stops for a blocked mailbox by session. `now`: monotonic, in seconds."""

    def __init__(self) -> None:
        self._stops: dict[SessionId, deque[float]] = {}

    def record_stop(self, session: SessionId, now: float) -> int:
        """Record a stop. Returns the number of stops within WINDOW_S."""
        self._stops = {one: stops for one, stops in self._stops.items() if now - stops[-1] < WINDOW_S}
        stops = self._stops.setdefault(session, deque(maxlen=MAX_STOPS))
        stops.append(now)
        return sum(now - stop < WINDOW_S for stop in stops)

    def reset(self, session: SessionId) -> None:
        """Forget the session's stops, since it is held: after a release it starts at zero."""
        self._stops.pop(session, None)


def escalate(stuck: Stuck, stops: int) -> Stuck:
    """Returns `stuck` for a session that was stopped so often for its mailbox: at MAX_STOPS it is to be held. Pure."""
    if stops < MAX_STOPS:
        return stuck
    sentence = lazy_gettext(
        "{problem}; within an hour it has kept the host from its mailbox {count} times",
        problem=stuck.detail,
        count=stops,
    )
    return replace(stuck, detail=sentence, should_hold=True)
