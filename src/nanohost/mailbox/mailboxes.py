"""The host's half of all mailboxes: writes inbound.db, rings the runner, reads outbound.db.

Promises: what `update` returned is on disk; one session's writes never overlap, nor do its looks; our own files are
written by a small pool of threads, so that a thousand sessions cost no thread; an outbound.db is opened in reader
processes only, which can be killed, and other work in what a container writes has threads of its own. Every wait has a
limit, and no session's files keep another waiting: see `patience`. Never: a write to outbound.db, or trust in what it
holds.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from nanohost.clock import Clock, SystemClock
from nanohost.db.domain_events import MailboxBlocked
from nanohost.errors import MailboxError
from nanohost.mailbox.backoff import INITIAL_BACKOFF_S, MailboxBackoff
from nanohost.mailbox.queries import Query
from nanohost.mailbox.reader_client import ReadersBusy, ReadTimedOut
from nanohost.mailbox.reader_pool import ReaderPool
from nanohost.mailbox.session_dirs import notify_runner, prepare_session_dir, restore_empty_parts, session_layout
from nanohost.model import Session, SessionId
from nanohost.work.event_bus import EventBus
from nanohost.work.evicting_map import EvictingMap
from nanohost.work.thread_pool import SHUTDOWN_TIMEOUT_S, ThreadPool
from nanohost_protocol.errors import FileLocked as FileBusy
from nanohost_protocol.errors import FileNotReady, ProtocolError
from nanohost_protocol.inbound import InboundReader, InboundWriter, inbound_snapshot, inbound_transaction
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.rows import NewMessageIn

T = TypeVar("T")
P = ParamSpec("P")

BlockedListener = Callable[[SessionId, str], None]
"""Told of a session that keeps its own files from being read or written, and how."""

MAX_CONTEXT_MESSAGES = 200
"""Messages that wake nobody and wait for one that does: more than a runner takes along, so that none is missed."""
THREAD_COUNT = 2
"""Session files are small and local: two threads keep up with thousands of sessions. As many for other work in what
containers write: a file that is copied to be sent."""
READ_BUSY_S = 0.05
"""For which a reader process waits for a runner's commit; not at all where the file was locked the last time."""
WRITE_BUSY_S = 0.01
"""For which a thread waits for a reader of an inbound.db to finish; a runner reads for less than a millisecond."""
WRITE_BACKOFF_S = (0.01, 0.02, 0.04, 0.08, 0.16)
"""Between tries to write an inbound.db that a reader holds. Nothing waits in a thread meanwhile."""
THREAD_TIMEOUT_S = 30.0
"""A thread that does not come back for so long waits for a disk, or for a file that is none."""
FOLDER_TIMEOUT_S = 60.0
"""The largest file that a platform takes is copied in a second."""
VERIFY_HINT = "nanohost verify shows what is wrong"


class Mailboxes:
    """All sessions' files below one folder. `clock` measures pauses; tests of their limits replace `readers`. `bus` is
    told of a session that keeps us from its files (MailboxBlocked)."""

    def __init__(
        self,
        sessions_dir: Path,
        *,
        durable: bool = True,
        clock: Clock | None = None,
        readers: ReaderPool | None = None,
        bus: EventBus | None = None,
    ) -> None:
        self._sessions_dir = sessions_dir
        self._durable = durable
        self._clock = clock or SystemClock()
        self._readers = readers or ReaderPool()
        self._pool: ThreadPool | None = None
        self._folder_pool: ThreadPool | None = None
        self._running: set[asyncio.Future[Any]] = set()
        # A lock lives as long as somebody holds it or waits: there may be as many sessions as there were ever threads.
        self._write_locks: WeakValueDictionary[SessionId, asyncio.Lock] = WeakValueDictionary()
        self._read_locks: WeakValueDictionary[SessionId, asyncio.Lock] = WeakValueDictionary()
        self._read_backoff = EvictingMap[SessionId, MailboxBackoff](
            lambda known: known.is_idle(self._clock.monotonic())
        )
        self._write_backoff: dict[SessionId, MailboxBackoff] = {}
        self._generations: dict[SessionId, int] = {}
        """Grows with `reset_backoff`: what a look finds that began before counts against nobody."""
        self._retry_times: dict[SessionId, float] = {}
        """When a session is looked at again that could not be looked at; monotonic seconds."""
        self._retry_changed = asyncio.Event()
        self.read_count = 0
        """How many looks into an outbound.db were made."""
        self._bus = bus or EventBus()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Have the threads and the readers while entered; leaving waits for writes that began, but not for ever."""
        async with AsyncExitStack() as stack:
            self._pool = ThreadPool("mailbox", THREAD_COUNT)
            stack.push_async_callback(self._close_pool, self._pool)
            self._folder_pool = ThreadPool("folder", THREAD_COUNT)
            stack.callback(self._folder_pool.shutdown, wait=False)
            await stack.enter_async_context(self._readers.opened())
            yield

    def layout(self, session: Session) -> SessionLayout:
        return session_layout(self._sessions_dir, session.group_folder, session.id)

    async def restore_empty_parts(self, session: Session) -> None:
        """Make the empty folders and the FIFO of a session's folder that a backup has left out. Raises MailboxError."""
        layout = self.layout(session)
        await self._wrap_errors(session, lambda: self._run_in_thread(layout.root, partial(restore_empty_parts, layout)))

    def reset_backoff(self, session: SessionId) -> None:
        """It has another container, or none: nothing that the last one held is held any more. Look again at once."""
        self._generations[session] = self._generations.get(session, 0) + 1
        self._read_backoff.remove(session)
        self._write_backoff.pop(session, None)

    async def run_retries(self, notify: Callable[[SessionId], None]) -> None:
        """For ever: tell of each session that could not be looked at, when its pause is over."""
        while True:
            self._retry_changed.clear()
            now = self._clock.monotonic()
            for session in [session for session, at in self._retry_times.items() if at <= now]:
                del self._retry_times[session]
                notify(session)
            await self._wait_for_retry(min(self._retry_times.values(), default=None))

    async def put(self, session: Session, messages: Sequence[NewMessageIn]) -> None:
        """Add messages in one transaction and wake the runner. Ids that are there already change nothing. Of those that
        wake nobody the newest MAX_CONTEXT_MESSAGES stay."""

        def add(box: InboundWriter) -> None:
            for message in messages:
                box.insert(message)
            if session.lease is None and not all(message.trigger for message in messages):
                box.close_old_context(MAX_CONTEXT_MESSAGES)

        await self.update(session, add)
        notify_runner(self.layout(session))

    async def update(self, session: Session, change: Callable[[InboundWriter], T]) -> T:
        """One transaction on inbound.db; the folder is made if it is not there. `change` may be called again, in
        another transaction, if the first cannot be committed.

        Raises MailboxError: the file is damaged, of another version, held by a reader, or the disk refuses.
        """
        layout = self.layout(session)

        def write() -> T:
            if not layout.inbound_db.exists():
                prepare_session_dir(layout)
            with inbound_transaction(layout.inbound_db, durable=self._durable, busy_timeout_s=WRITE_BUSY_S) as box:
                return change(box)

        async with self._lock_for(self._write_locks, session.id):
            return await self._wrap_errors(session, lambda: self._write_with_retries(session, write))

    async def read_outbound(self, session: Session, query: Query[T]) -> T | None:
        """Look into outbound.db, one snapshot. None means no news yet: not there, being rolled back, or locked; whoever
        serves `retry` is told when to look again.

        Raises MailboxError when the file is not one the host reads.
        """
        async with self._lock_for(self._read_locks, session.id):
            known = self._read_backoff.get(session.id) or MailboxBackoff()
            if self._clock.monotonic() < known.not_before:
                self._schedule_retry(session.id, known.not_before)
                return None
            try:
                return await self._query(session, query, known)
            except (ProtocolError, OSError) as error:
                raise self._mailbox_error(session, error) from error

    async def needs_rollback(self, session: Session) -> bool:
        """Whether a dead runner left a journal that only a runner may roll back: nothing can be read until then."""
        path = self.layout(session).outbound_db
        journal = path.with_name(path.name + "-journal")

        def look() -> bool:
            try:
                return journal.lstat().st_size > 0
            except FileNotFoundError:
                return False

        return await self._wrap_errors(session, lambda: self._run_in_thread(journal, look))

    async def read_inbound(self, session: Session, read: Callable[[InboundReader], T]) -> T:
        """Look into our own inbound.db. Raises MailboxError."""
        path = self.layout(session).inbound_db

        def look() -> T:
            with inbound_snapshot(path) as box:
                return read(box)

        return await self._wrap_errors(session, lambda: self._run_in_thread(path, look))

    async def run_in_folder_pool(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do blocking work in a folder that a container writes, in threads that do nothing else: whatever the container
        put there, only work of this kind waits for it. Raises what the work does, and TimeoutError."""
        assert self._folder_pool is not None, "mailboxes are opened before they are used"
        working = asyncio.get_running_loop().run_in_executor(self._folder_pool, partial(work, *args, **kwargs))
        try:
            return await asyncio.wait_for(asyncio.shield(working), FOLDER_TIMEOUT_S)
        except TimeoutError:
            if working.done():
                raise
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None

    async def _query(self, session: Session, query: Query[T], backoff: MailboxBackoff) -> T | None:
        busy_s = 0.0 if backoff.lock_count else READ_BUSY_S
        path, life = self.layout(session).outbound_db, self._generations.get(session.id, 0)
        cpu_s = 0.0

        def note(after: MailboxBackoff, *, is_well: bool = False, problem: str = "") -> None:
            if life == self._generations.get(session.id, 0):
                self._read_backoff.put(session.id, after)
                if not is_well:
                    self._check_blocked(session.id, after, path.name, problem=problem)

        try:
            self.read_count += 1
            looked = await self._readers.read(path, query, busy_s=busy_s)
            cpu_s = looked.cpu_s
            value = looked.parse(query, path)
        except ReadersBusy:
            self._schedule_retry(session.id, self._clock.monotonic() + INITIAL_BACKOFF_S)
            return None
        except FileNotReady:
            note(backoff.after_success(self._clock.monotonic(), cpu_s=cpu_s), is_well=True)
            return None
        except FileBusy:
            after = backoff.after_lock(self._clock.monotonic())
            self._schedule_retry(session.id, after.not_before)
            note(after)
            return None
        except ReadTimedOut:
            note(backoff.after_hang(self._clock.monotonic()))
            raise
        except ProtocolError as error:
            note(backoff.after_refusal(self._clock.monotonic(), cpu_s=cpu_s), problem=str(error))
            raise
        note(backoff.after_success(self._clock.monotonic(), cpu_s=cpu_s), is_well=True)
        return value

    async def _write_with_retries(self, session: Session, write: Callable[[], T]) -> T:
        """Try again while a reader holds the file; fewer times where it did the last time."""
        known, path = self._write_backoff.get(session.id, MailboxBackoff()), self.layout(session).inbound_db
        for pause_s in () if known.lock_count else WRITE_BACKOFF_S:
            try:
                done = await self._run_in_thread(path, write)
            except FileBusy:
                await asyncio.sleep(pause_s)
            else:
                return done
        try:
            done = await self._run_in_thread(path, write)
        except FileBusy:
            self._write_backoff[session.id] = known.after_lock(self._clock.monotonic())
            self._check_blocked(session.id, self._write_backoff[session.id], path.name)
            raise
        self._write_backoff.pop(session.id, None)
        return done

    def _check_blocked(self, session: SessionId, backoff: MailboxBackoff, file: str, *, problem: str = "") -> None:
        if why := backoff.stop_reason(file, self._clock.monotonic(), problem=problem):
            self._bus.publish(MailboxBlocked(session, why))

    def _schedule_retry(self, session: SessionId, at: float) -> None:
        self._retry_times[session] = min(at, self._retry_times.get(session, at))
        self._retry_changed.set()

    async def _wait_for_retry(self, at: float | None) -> None:
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(self._retry_changed.wait())]
        if at is not None:
            waits.append(asyncio.ensure_future(self._clock.sleep(at - self._clock.monotonic())))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _wrap_errors(self, session: Session, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except (ProtocolError, OSError) as error:
            raise self._mailbox_error(session, error) from error

    async def _run_in_thread(self, path: Path, work: Callable[[], T]) -> T:
        """Raises ProtocolError when the thread does not come back. `path`: of what it is at, if somebody asks."""
        assert self._pool is not None, "mailboxes are opened before they are used"
        working = asyncio.get_running_loop().run_in_executor(self._pool, _run_at_path, path, work)
        self._running.add(working)
        working.add_done_callback(self._running.discard)
        try:
            return await asyncio.wait_for(asyncio.shield(working), THREAD_TIMEOUT_S)
        except TimeoutError:
            if working.done():
                raise
            raise ProtocolError(f"its files did not let themselves be used for {THREAD_TIMEOUT_S:g} s") from None

    def _mailbox_error(self, session: Session, error: Exception) -> MailboxError:
        return MailboxError(f"session {session.id} of {session.group_folder}: {error}", hint=VERIFY_HINT)

    async def _close_pool(self, pool: ThreadPool) -> None:
        pool.shutdown(wait=False)
        if self._running:
            await asyncio.wait(self._running, timeout=SHUTDOWN_TIMEOUT_S)

    @staticmethod
    def _lock_for(locks: WeakValueDictionary[SessionId, asyncio.Lock], session: SessionId) -> asyncio.Lock:
        return locks.setdefault(session, asyncio.Lock())


def _run_at_path(_path: Path, work: Callable[[], T]) -> T:
    return work()
