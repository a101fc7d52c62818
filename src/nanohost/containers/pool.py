"""Which containers there are, and who waits for one. Facts and choices only: the container manager acts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from nanohost.containers.retry_policy import backoff
from nanohost.containers.stuck import Stuck
from nanohost.model import LeaseId, SessionId
from nanohost.runtimes.port import Container
from nanohost.text.translation import lazy_gettext

STOP_GRACE_S = 8.0
"""The runner gives its turn back within a second of SIGTERM; the rest is for a slow disk."""


class SlotState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(slots=True, kw_only=True)
class Slot:
    """One session's container. `last_activity` is on the monotonic clock: when it last did or got something."""

    session_id: SessionId
    lease: LeaseId
    state: SlotState
    last_activity: float
    started_at: float
    container: Container | None = None
    is_busy: bool = True
    """Messages are claimed or due: not to be stopped for being idle. A new container is, until it shows otherwise."""
    failure_reason: str = ""
    """Why it is being stopped though it should not be: its end counts as a death."""
    wakes: int = 0
    """How often it was told of work."""
    is_draining: bool = False
    """To be stopped as soon as it works on nothing."""
    grace_s: float = STOP_GRACE_S


class ContainerPool:
    """At most `max_containers` containers; who waits is served in order of arrival."""

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
        """Queue for a container; once, however often it is asked for."""
        self._queue.setdefault(session)

    def queued(self) -> tuple[SessionId, ...]:
        return tuple(self._queue)

    def is_queued(self, session: SessionId) -> bool:
        return session in self._queue

    def next_startable(self) -> SessionId | None:
        """Who may start now: the longest waiting, if there is room and its old container is gone."""
        if len(self._slots) >= self._max_containers:
            return None
        for session in self._queue:
            if session not in self._slots:
                del self._queue[session]
                return session
        return None

    def eviction_candidate(self) -> Slot | None:
        """When somebody waits and all is full: the container that has been idle the longest."""
        if not self._queue or len(self._slots) < self._max_containers:
            return None
        if any(slot.state is SlotState.STOPPING for slot in self._slots.values()):
            return None
        return min(self._idle_slots(), key=lambda slot: slot.last_activity, default=None)

    def idle_since(self, cutoff: float) -> list[Slot]:
        """Running containers that have done nothing since then."""
        return [slot for slot in self._idle_slots() if slot.last_activity <= cutoff]

    def _idle_slots(self) -> list[Slot]:
        return [slot for slot in self._slots.values() if slot.state is SlotState.RUNNING and not slot.is_busy]


MAX_BACKOFF_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureInfo:
    """A session whose containers fail: how often in a row, why the last time, and when the next pause is over."""

    count: int = 0
    retry_at: float = 0.0
    reason: str = ""


class StartBackoff:
    """Failures in a row by session. `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._failures: dict[SessionId, FailureInfo] = {}

    def record_failure(self, session: SessionId, now: float, reason: str = "") -> int:
        """A start failed, or a container died that nobody stopped. Returns how many that makes in a row."""
        count = self.failure_count(session)
        wait_s = 0.0 if count == 0 else min(backoff(count - 1).total_seconds(), MAX_BACKOFF_S)
        self._failures[session] = FailureInfo(count=count + 1, retry_at=now + wait_s, reason=reason)
        return count + 1

    def failure_count(self, session: SessionId) -> int:
        """How many failures there were since something was done."""
        return self._failures.get(session, FailureInfo()).count

    def can_start(self, session: SessionId, now: float) -> bool:
        """Whether the session may have a container now."""
        return self._failures.get(session, FailureInfo()).retry_at <= now

    def reset(self, session: SessionId) -> None:
        """Something was done: the next failure is the first again."""
        self._failures.pop(session, None)

    def remaining_s(self, now: float) -> Iterator[float]:
        """Seconds until each pause that is on ends."""
        return (trouble.retry_at - now for trouble in self._failures.values() if trouble.retry_at > now)

    def failures(self) -> dict[SessionId, FailureInfo]:
        """The sessions that have failed since something was done."""
        return dict(self._failures)


MAX_STOPS = 3
"""The first may be a disk that stood still, the second a process that was left over. Between two stops a container was
started, which takes writes to the same disk: a disk that hangs does not bring about three."""
WINDOW_S = 3600.0


class MailboxStopCounter:
    """By session. `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._stops: dict[SessionId, deque[float]] = {}

    def record_stop(self, session: SessionId, now: float) -> int:
        """It was stopped once more. How often that makes within WINDOW_S."""
        self._stops = {one: stops for one, stops in self._stops.items() if now - stops[-1] < WINDOW_S}
        stops = self._stops.setdefault(session, deque(maxlen=MAX_STOPS))
        stops.append(now)
        return sum(now - stop < WINDOW_S for stop in stops)

    def reset(self, session: SessionId) -> None:
        """It is held: whoever lets it go on gives it all its stops again."""
        self._stops.pop(session, None)


def escalate(stuck: Stuck, stops: int) -> Stuck:
    """What happens to a session that was stopped for its mailbox so often: the MAX_STOPS-th time it is held. Pure."""
    if stops < MAX_STOPS:
        return stuck
    sentence = lazy_gettext(
        "{problem}; within an hour it has kept the host from its mailbox {count} times",
        problem=stuck.detail,
        count=stops,
    )
    return replace(stuck, detail=sentence, should_hold=True)
