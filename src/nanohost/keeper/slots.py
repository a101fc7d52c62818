"""Which containers there are, and who waits for one. Facts and choices only: the keeper acts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from nanohost.model import LeaseId, SessionId
from nanohost.runtimes.port import Container

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
