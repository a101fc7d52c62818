"""Detects which sessions' outbound.db changed: by file events if the machine has them, and by a poll every second.

Both only report that a file changed; its readers find out what is new. Either alone is enough for everything to work.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    import asyncinotify

from nanohost.clock import Clock
from nanohost.db.domain_events import OutboxChanged
from nanohost.model import SessionId
from nanohost.work.event_bus import EventBus
from nanohost_protocol.layout import SessionLayout

MTIME_GRANULARITY_S = 0.02
"""File times have the granularity of the kernel's tick: a file that changed more recently may change again with the
same time."""

JOURNAL_NAME = "outbound.db-journal"
MAX_EVENTS = 5_000
"""The most events of one folder in WINDOW_S. A commit makes about ten; a container can make hundreds of thousands, and
the host's event loop handles each."""
WINDOW_S = 1.0
EVENT_COOLDOWN_S = 10.0
"""For how long a folder with more events is only polled."""

FileStamp = tuple[int, int, int] | None

_log = structlog.get_logger()


@dataclass(slots=True)
class _WatchedFile:
    path: Path
    stamp: FileStamp = None


class OutboxMonitor:
    """Watches the out/ folders of sessions that have a container, and publishes OutboxChanged."""

    def __init__(self, clock: Clock, bus: EventBus, *, interval_s: float, use_events: bool) -> None:
        self._bus = bus
        self._clock = clock
        self._interval_s = interval_s
        self._use_events = use_events
        self._watched: dict[SessionId, _WatchedFile] = {}
        self._folder_watcher: FolderWatcher | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Receive file events while entered, if the machine has them."""
        if not self._use_events:
            yield
            return
        with _open_folder_watcher(self._clock) as self._folder_watcher:
            yield
        self._folder_watcher = None

    def watch(self, session: SessionId, layout: SessionLayout) -> None:
        """Report changes of this session from now on."""
        self._watched[session] = _WatchedFile(layout.outbound_db)
        if self._folder_watcher is not None:
            self._folder_watcher.add(session, layout.out_dir)

    def unwatch(self, session: SessionId) -> None:
        """Stop to report changes of this session, since its container is gone."""
        self._watched.pop(session, None)
        if self._folder_watcher is not None:
            self._folder_watcher.remove(session)

    async def poll(self) -> None:
        """Run for ever: check every watched file once an interval, as the safety net for file events."""
        while True:
            await self._clock.sleep(self._interval_s)
            self.check_all()

    def check_all(self) -> None:
        """Check every watched file once: two system calls for each session."""
        for session, watched in list(self._watched.items()):
            stamp = _file_stamp(watched.path)
            if stamp != watched.stamp:
                watched.stamp = stamp if _is_settled(stamp) else None
                self.notify_changed(session)
        if self._folder_watcher is not None:
            for session in self._folder_watcher.pop_cooled_down(self._clock.monotonic()):
                self._folder_watcher.add(session, self._watched[session].path.parent)

    @property
    def has_events(self) -> bool:
        """Whether this machine has file events; without them, `poll` finds changes."""
        return self._folder_watcher is not None

    async def listen(self) -> None:
        """Run for ever: report changes from file events. Call it only if `has_events`."""
        assert self._folder_watcher is not None, "there are no file events here"
        async for session in self._folder_watcher.changes():
            if session is None:
                for active in list(self._watched):
                    self.notify_changed(active)
            elif (watched := self._watched.get(session)) is not None:
                watched.stamp = _file_stamp(watched.path)  # a later change makes another event
                self.notify_changed(session)

    def notify_changed(self, session: SessionId) -> None:
        """Publish that the session's outbound.db may have changed."""
        self._bus.publish(OutboxChanged(session))


def _file_stamp(path: Path) -> FileStamp:
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _is_settled(stamp: FileStamp) -> bool:
    return stamp is not None and time.time_ns() - stamp[0] > MTIME_GRANULARITY_S * 1e9


@dataclass(slots=True)
class _EventCount:
    since: float
    events: int = 0


class FolderWatcher:
    """One inotify instance for all sessions, with a watch for each folder: the kernel limits instances per user."""

    def __init__(self, clock: Clock) -> None:
        import asyncinotify

        self._clock = clock
        self._mask = asyncinotify.Mask.MODIFY | asyncinotify.Mask.DELETE
        self._overflow = asyncinotify.Mask.Q_OVERFLOW
        self._inotify = asyncinotify.Inotify(cache_size=64)
        self._watches: dict[SessionId, asyncinotify.Watch] = {}
        self._sessions: dict[Path, SessionId] = {}
        self._counts: dict[SessionId, _EventCount] = {}
        self._cooldown_until: dict[SessionId, float] = {}
        """Sessions whose folders made too many events, and when to watch them again; monotonic seconds."""

    def add(self, session: SessionId, folder: Path) -> None:
        if session in self._watches:
            return
        try:
            self._watches[session] = self._inotify.add_watch(folder, self._mask)
        except OSError as error:
            _log.warning("file_watch_failed", session=session, error=str(error), effect="polled each second")
            return
        self._sessions[folder] = session

    def remove(self, session: SessionId) -> None:
        self._cooldown_until.pop(session, None)
        self._unwatch(session)

    def pop_cooled_down(self, now: float) -> list[SessionId]:
        """Returns the sessions whose cooldown is over, and forgets them."""
        sessions = [session for session, until in self._cooldown_until.items() if until <= now]
        for session in sessions:
            del self._cooldown_until[session]
        return sessions

    def _unwatch(self, session: SessionId) -> None:
        self._counts.pop(session, None)
        watch = self._watches.pop(session, None)
        if watch is None:
            return
        self._sessions = {path: owner for path, owner in self._sessions.items() if owner != session}
        with suppress(OSError, ValueError):
            self._inotify.rm_watch(watch)

    async def changes(self) -> AsyncIterator[SessionId | None]:
        """Yields each session that changed; None if the kernel's queue overflowed and any may have changed."""
        async for event in self._inotify:
            if event.mask & self._overflow:
                yield None
            elif event.watch is not None and event.watch.path in self._sessions:
                session = self._sessions[event.watch.path]
                if self._exceeds_event_limit(session) or _is_commit_end(event):
                    yield session

    def _exceeds_event_limit(self, session: SessionId) -> bool:
        """Count an event. Returns True and removes the watch if there are too many."""
        now = self._clock.monotonic()
        count = self._counts.setdefault(session, _EventCount(now))
        if now - count.since > WINDOW_S:
            count.since, count.events = now, 0
        count.events += 1
        if count.events <= MAX_EVENTS:
            return False
        _log.warning("file_watch_suspended", session=session, effect=f"polled each second for {EVENT_COOLDOWN_S:g} s")
        self._unwatch(session)
        self._cooldown_until[session] = now + EVENT_COOLDOWN_S
        return True

    def close(self) -> None:
        self._inotify.close()


def _is_commit_end(event: asyncinotify.Event) -> bool:
    """Whether the event ends a commit: a commit writes the journal, then the database, and at last empties the journal.
    A read before that would meet the writer's lock, and block the writer."""
    if event.path is None or event.path.name != JOURNAL_NAME:
        return False
    try:
        return event.path.lstat().st_size == 0
    except OSError:
        return True


@contextmanager
def _open_folder_watcher(clock: Clock) -> Iterator[FolderWatcher | None]:
    try:
        events = FolderWatcher(clock)
    except (ImportError, OSError) as error:
        _log.warning("file_events_unavailable", error=str(error), effect="answers are found by a poll each second")
        yield None
        return
    try:
        yield events
    finally:
        events.close()
