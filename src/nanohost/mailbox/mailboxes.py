"""The host's side of all mailboxes: writes inbound.db, wakes the runner, reads outbound.db.

Promises: when `update` returns, the change is on disk. One session's writes do not overlap, nor do its reads. A small
pool of threads writes our own files, so that sessions cost no threads. An outbound.db is opened only in reader
processes, which can be killed; other work in folders that containers write has threads of its own. Every wait has a
limit, and no session's files delay another session: see `backoff`. Never: writes to outbound.db, or trusts what it
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
"""Called with a session whose container blocks its files, and the reason."""

MAX_CONTEXT_MESSAGES = 200
"""The most waiting messages of context: more than a runner takes into one turn, so that none is missed."""
THREAD_COUNT = 2
"""Session files are small and local: two threads are enough for thousands of sessions. The pool for other work in
folders that containers write, such as copying a file to send, has as many."""
READ_BUSY_S = 0.05
"""How long a reader process waits for a runner's commit; 0 if the file was locked at the last read."""
WRITE_BUSY_S = 0.01
"""How long a thread waits for a reader of an inbound.db; a runner reads for less than a millisecond."""
WRITE_BACKOFF_S = (0.01, 0.02, 0.04, 0.08, 0.16)
"""Pauses between attempts to write an inbound.db that a reader has locked. They occupy no thread."""
THREAD_TIMEOUT_S = 30.0
"""A thread that does not return for so long waits for a disk, or for a special file."""
FOLDER_TIMEOUT_S = 60.0
"""Ample: the largest file that a platform accepts is copied in a second."""
VERIFY_HINT = "nanohost verify shows what is wrong"


class Mailboxes:
    """All sessions' files below one folder. `clock` measures pauses; tests of limits replace `readers`. Publishes
    MailboxBlocked on `bus` if a session's container blocks its files."""

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
        # Weak values: a lock lives only while it is held or waited for, however many sessions there are.
        self._write_locks: WeakValueDictionary[SessionId, asyncio.Lock] = WeakValueDictionary()
        self._read_locks: WeakValueDictionary[SessionId, asyncio.Lock] = WeakValueDictionary()
        self._read_backoff = EvictingMap[SessionId, MailboxBackoff](
            lambda backoff: backoff.is_idle(self._clock.monotonic())
        )
        self._write_backoff: dict[SessionId, MailboxBackoff] = {}
        self._generations: dict[SessionId, int] = {}
        """Incremented by `reset_backoff`: the outcome of a read that began before is ignored."""
        self._retry_times: dict[SessionId, float] = {}
        """When to retry the read of a session's outbound.db; monotonic seconds."""
        self._retry_changed = asyncio.Event()
        self.read_count = 0
        """How many reads of an outbound.db were made."""
        self._bus = bus or EventBus()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Run the threads and the readers while entered. Exit waits for started writes, SHUTDOWN_TIMEOUT_S at most."""
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
        """Forget the session's backoff, since its last container, which held its files, is gone."""
        self._generations[session] = self._generations.get(session, 0) + 1
        self._read_backoff.remove(session)
        self._write_backoff.pop(session, None)

    async def run_retries(self, notify: Callable[[SessionId], None]) -> None:
        """Run for ever: call `notify` for each session whose outbound.db can be read again after a backoff."""
        while True:
            self._retry_changed.clear()
            now = self._clock.monotonic()
            for session in [session for session, at in self._retry_times.items() if at <= now]:
                del self._retry_times[session]
                notify(session)
            await self._wait_for_retry(min(self._retry_times.values(), default=None))

    async def put(self, session: Session, messages: Sequence[NewMessageIn]) -> None:
        """Add messages in one transaction and wake the runner. A message whose id exists changes nothing. Of the
        waiting context only the newest MAX_CONTEXT_MESSAGES stay."""

        def add(box: InboundWriter) -> None:
            for message in messages:
                box.insert(message)
            if session.lease is None and not all(message.trigger for message in messages):
                box.close_old_context(MAX_CONTEXT_MESSAGES)

        await self.update(session, add)
        notify_runner(self.layout(session))

    async def update(self, session: Session, change: Callable[[InboundWriter], T]) -> T:
        """Call `change` in one transaction on inbound.db, and return its result. Creates the session's folder if it is
        missing. `change` may be called again in another transaction if the first cannot be committed.

        Raises MailboxError: the file is damaged, of another version or locked by a reader, or the disk is full.
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
        """Run a query on one snapshot of outbound.db. Returns None if it cannot be read now: it does not exist, needs a
        rollback, or is locked; `run_retries` then notifies when to read again.

        Raises MailboxError if the host must not read the file.
        """
        async with self._lock_for(self._read_locks, session.id):
            backoff = self._read_backoff.get(session.id) or MailboxBackoff()
            if self._clock.monotonic() < backoff.not_before:
                self._schedule_retry(session.id, backoff.not_before)
                return None
            try:
                return await self._query(session, query, backoff)
            except (ProtocolError, OSError) as error:
                raise self._mailbox_error(session, error) from error

    async def needs_rollback(self, session: Session) -> bool:
        """Whether a dead runner left a journal, which only a runner may roll back: until then nothing can be read."""
        path = self.layout(session).outbound_db
        journal = path.with_name(path.name + "-journal")

        def has_journal() -> bool:
            try:
                return journal.lstat().st_size > 0
            except FileNotFoundError:
                return False

        return await self._wrap_errors(session, lambda: self._run_in_thread(journal, has_journal))

    async def read_inbound(self, session: Session, read: Callable[[InboundReader], T]) -> T:
        """Call `read` with a snapshot of our own inbound.db, and return its result. Raises MailboxError."""
        path = self.layout(session).inbound_db

        def read_snapshot() -> T:
            with inbound_snapshot(path) as box:
                return read(box)

        return await self._wrap_errors(session, lambda: self._run_in_thread(path, read_snapshot))

    async def run_in_folder_pool(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in a folder that a container writes, in threads for such work only: whatever the container
        put there can block no other work. Raises what the work raises, and TimeoutError."""
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
        path, generation = self.layout(session).outbound_db, self._generations.get(session.id, 0)
        cpu_s = 0.0

        def record(after: MailboxBackoff, *, is_ok: bool = False, problem: str = "") -> None:
            if generation == self._generations.get(session.id, 0):
                self._read_backoff.put(session.id, after)
                if not is_ok:
                    self._check_blocked(session.id, after, path.name, problem=problem)

        try:
            self.read_count += 1
            result = await self._readers.read(path, query, busy_s=busy_s)
            cpu_s = result.cpu_s
            value = result.parse(query, path)
        except ReadersBusy:
            self._schedule_retry(session.id, self._clock.monotonic() + INITIAL_BACKOFF_S)
            return None
        except FileNotReady:
            record(backoff.after_success(self._clock.monotonic(), cpu_s=cpu_s), is_ok=True)
            return None
        except FileBusy:
            after = backoff.after_lock(self._clock.monotonic())
            self._schedule_retry(session.id, after.not_before)
            record(after)
            return None
        except ReadTimedOut:
            record(backoff.after_hang(self._clock.monotonic()))
            raise
        except ProtocolError as error:
            record(backoff.after_refusal(self._clock.monotonic(), cpu_s=cpu_s), problem=str(error))
            raise
        record(backoff.after_success(self._clock.monotonic(), cpu_s=cpu_s), is_ok=True)
        return value

    async def _write_with_retries(self, session: Session, write: Callable[[], T]) -> T:
        """Retry while a reader has locked the file; only one attempt if it was locked at the last write."""
        backoff, path = self._write_backoff.get(session.id, MailboxBackoff()), self.layout(session).inbound_db
        for pause_s in () if backoff.lock_count else WRITE_BACKOFF_S:
            try:
                result = await self._run_in_thread(path, write)
            except FileBusy:
                await asyncio.sleep(pause_s)
            else:
                return result
        try:
            result = await self._run_in_thread(path, write)
        except FileBusy:
            self._write_backoff[session.id] = backoff.after_lock(self._clock.monotonic())
            self._check_blocked(session.id, self._write_backoff[session.id], path.name)
            raise
        self._write_backoff.pop(session.id, None)
        return result

    def _check_blocked(self, session: SessionId, backoff: MailboxBackoff, file: str, *, problem: str = "") -> None:
        if reason := backoff.stop_reason(file, self._clock.monotonic(), problem=problem):
            self._bus.publish(MailboxBlocked(session, reason))

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
        """Run the work in a thread. `path`: the file it works on, for `running_call`. Raises ProtocolError if the
        thread does not return in time."""
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
