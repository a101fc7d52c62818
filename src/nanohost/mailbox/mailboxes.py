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
from nanohost.errors import MailboxError
from nanohost.event_bus import EventBus
from nanohost.mailbox.paths import prepare, ring, session_layout
from nanohost.mailbox.patience import FIRST_PAUSE_S, Patience
from nanohost.mailbox.queries import Query
from nanohost.mailbox.reader_client import AllLate, LookHung
from nanohost.mailbox.readers import Readers
from nanohost.model import Session, SessionId
from nanohost.remembered import Remembered
from nanohost.store.domain_events import MailboxBlocked
from nanohost.threads import LEAVE_S, Threads
from nanohost_protocol.errors import Busy as FileBusy
from nanohost_protocol.errors import NotReady, ProtocolError
from nanohost_protocol.inbound import InboundReader, InboundWriter, reading_inbound, writing
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.rows import NewMessageIn

T = TypeVar("T")
P = ParamSpec("P")

OnBlocked = Callable[[SessionId, str], None]
"""Told of a session that keeps its own files from being read or written, and how."""

MOST_CONTEXT = 200
"""Messages that wake nobody and wait for one that does: more than a runner takes along, so that none is missed."""
THREADS = 2
"""Session files are small and local: two threads keep up with thousands of sessions. As many for other work in what
containers write: a file that is copied to be sent."""
LOCK_WAIT_S = 0.05
"""For which a reader process waits for a runner's commit; not at all where the file was locked the last time."""
WRITE_BUSY_S = 0.01
"""For which a thread waits for a reader of an inbound.db to finish; a runner reads for less than a millisecond."""
WRITE_PAUSES_S = (0.01, 0.02, 0.04, 0.08, 0.16)
"""Between tries to write an inbound.db that a reader holds. Nothing waits in a thread meanwhile."""
THREAD_LIMIT_S = 30.0
"""A thread that does not come back for so long waits for a disk, or for a file that is none."""
FOLDER_LIMIT_S = 60.0
"""The largest file that a platform takes is copied in a second."""
HINT = "nanohost verify shows what is wrong"


class Mailboxes:
    """All sessions' files below one folder. `clock` measures pauses; tests of their limits replace `readers`. `bus` is
    told of a session that keeps us from its files (MailboxBlocked)."""

    def __init__(
        self,
        sessions: Path,
        *,
        durable: bool = True,
        clock: Clock | None = None,
        readers: Readers | None = None,
        bus: EventBus | None = None,
    ) -> None:
        self._sessions = sessions
        self._durable = durable
        self._clock = clock or SystemClock()
        self._readers = readers or Readers()
        self._pool: Threads | None = None
        self._folders: Threads | None = None
        self._in_threads: set[asyncio.Future[Any]] = set()
        # A lock lives as long as somebody holds it or waits: there may be as many sessions as there were ever threads.
        self._writing: WeakValueDictionary[SessionId, asyncio.Lock] = WeakValueDictionary()
        self._looking: WeakValueDictionary[SessionId, asyncio.Lock] = WeakValueDictionary()
        self._reads = Remembered[SessionId, Patience](lambda known: known.is_at_rest(self._clock.monotonic()))
        self._writes: dict[SessionId, Patience] = {}
        self._lives: dict[SessionId, int] = {}
        """Grows with `forgive`: what a look finds that began before counts against nobody."""
        self._retries: dict[SessionId, float] = {}
        """When a session is looked at again that could not be looked at; monotonic seconds."""
        self._retry_changed = asyncio.Event()
        self.looks = 0
        """How many looks into an outbound.db were made."""
        self._bus = bus or EventBus()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Have the threads and the readers while entered; leaving waits for writes that began, but not for ever."""
        async with AsyncExitStack() as stack:
            self._pool = Threads("mailbox", THREADS)
            stack.push_async_callback(self._close_pool, self._pool)
            self._folders = Threads("folder", THREADS)
            stack.callback(self._folders.shutdown, wait=False)
            await stack.enter_async_context(self._readers.opened())
            yield

    def layout(self, session: Session) -> SessionLayout:
        return session_layout(self._sessions, session.group_folder, session.id)

    def forgive(self, session: SessionId) -> None:
        """It has another container, or none: nothing that the last one held is held any more. Look again at once."""
        self._lives[session] = self._lives.get(session, 0) + 1
        self._reads.forget(session)
        self._writes.pop(session, None)

    async def retry(self, tell: Callable[[SessionId], None]) -> None:
        """For ever: tell of each session that could not be looked at, when its pause is over."""
        while True:
            self._retry_changed.clear()
            now = self._clock.monotonic()
            for session in [session for session, at in self._retries.items() if at <= now]:
                del self._retries[session]
                tell(session)
            await self._until_retry(min(self._retries.values(), default=None))

    async def put(self, session: Session, messages: Sequence[NewMessageIn]) -> None:
        """Add messages in one transaction and wake the runner. Ids that are there already change nothing. Of those that
        wake nobody the newest MOST_CONTEXT stay."""

        def add(box: InboundWriter) -> None:
            for message in messages:
                box.put(message)
            if session.lease is None and not all(message.trigger for message in messages):
                box.pass_over_context(MOST_CONTEXT)

        await self.update(session, add)
        ring(self.layout(session))

    async def update(self, session: Session, change: Callable[[InboundWriter], T]) -> T:
        """One transaction on inbound.db; the folder is made if it is not there. `change` may be called again, in
        another transaction, if the first cannot be committed.

        Raises MailboxError: the file is damaged, of another version, held by a reader, or the disk refuses.
        """
        layout = self.layout(session)

        def write() -> T:
            if not layout.inbound_db.exists():
                prepare(layout)
            with writing(layout.inbound_db, durable=self._durable, busy_s=WRITE_BUSY_S) as box:
                return change(box)

        async with self._lock(self._writing, session.id):
            return await self._translated(session, lambda: self._patiently(session, write))

    async def outbound(self, session: Session, query: Query[T]) -> T | None:
        """Look into outbound.db, one snapshot. None means no news yet: not there, being rolled back, or locked; whoever
        serves `retry` is told when to look again.

        Raises MailboxError when the file is not one the host reads.
        """
        async with self._lock(self._looking, session.id):
            known = self._reads.get(session.id) or Patience()
            if self._clock.monotonic() < known.not_before:
                self._retry_at(session.id, known.not_before)
                return None
            try:
                return await self._look(session, query, known)
            except (ProtocolError, OSError) as error:
                raise self._error(session, error) from error

    async def needs_rollback(self, session: Session) -> bool:
        """Whether a dead runner left a journal that only a runner may roll back: nothing can be read until then."""
        path = self.layout(session).outbound_db
        journal = path.with_name(path.name + "-journal")

        def look() -> bool:
            try:
                return journal.lstat().st_size > 0
            except FileNotFoundError:
                return False

        return await self._translated(session, lambda: self._in_thread(journal, look))

    async def inbound(self, session: Session, read: Callable[[InboundReader], T]) -> T:
        """Look into our own inbound.db. Raises MailboxError."""
        path = self.layout(session).inbound_db

        def look() -> T:
            with reading_inbound(path) as box:
                return read(box)

        return await self._translated(session, lambda: self._in_thread(path, look))

    async def in_folder(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Do blocking work in a folder that a container writes, in threads that do nothing else: whatever the container
        put there, only work of this kind waits for it. Raises what the work does, and TimeoutError."""
        assert self._folders is not None, "mailboxes are opened before they are used"
        working = asyncio.get_running_loop().run_in_executor(self._folders, partial(work, *arguments, **named))
        try:
            return await asyncio.wait_for(asyncio.shield(working), FOLDER_LIMIT_S)
        except TimeoutError:
            if working.done():
                raise
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None

    async def _look(self, session: Session, query: Query[T], known: Patience) -> T | None:
        busy_s = 0.0 if known.locked_in_a_row else LOCK_WAIT_S
        path, life = self.layout(session).outbound_db, self._lives.get(session.id, 0)
        cpu_s = 0.0

        def note(after: Patience, *, is_well: bool = False, problem: str = "") -> None:
            if life == self._lives.get(session.id, 0):
                self._reads.put(session.id, after)
                if not is_well:
                    self._judge(session.id, after, path.name, problem=problem)

        try:
            self.looks += 1
            looked = await self._readers.look(path, query, busy_s=busy_s)
            cpu_s = looked.cpu_s
            value = looked.value(query, path)
        except AllLate:
            self._retry_at(session.id, self._clock.monotonic() + FIRST_PAUSE_S)
            return None
        except NotReady:
            note(known.answered(self._clock.monotonic(), cpu_s=cpu_s), is_well=True)
            return None
        except FileBusy:
            after = known.locked(self._clock.monotonic())
            self._retry_at(session.id, after.not_before)
            note(after)
            return None
        except LookHung:
            note(known.hanging(self._clock.monotonic()))
            raise
        except ProtocolError as error:
            note(known.refusing(self._clock.monotonic(), cpu_s=cpu_s), problem=str(error))
            raise
        note(known.answered(self._clock.monotonic(), cpu_s=cpu_s), is_well=True)
        return value

    async def _patiently(self, session: Session, write: Callable[[], T]) -> T:
        """Try again while a reader holds the file; fewer times where it did the last time."""
        known, path = self._writes.get(session.id, Patience()), self.layout(session).inbound_db
        for pause_s in () if known.locked_in_a_row else WRITE_PAUSES_S:
            try:
                done = await self._in_thread(path, write)
            except FileBusy:
                await asyncio.sleep(pause_s)
            else:
                return done
        try:
            done = await self._in_thread(path, write)
        except FileBusy:
            self._writes[session.id] = known.locked(self._clock.monotonic())
            self._judge(session.id, self._writes[session.id], path.name)
            raise
        self._writes.pop(session.id, None)
        return done

    def _judge(self, session: SessionId, patience: Patience, file: str, *, problem: str = "") -> None:
        if why := patience.verdict(file, self._clock.monotonic(), problem=problem):
            self._bus.publish(MailboxBlocked(session, why))

    def _retry_at(self, session: SessionId, at: float) -> None:
        self._retries[session] = min(at, self._retries.get(session, at))
        self._retry_changed.set()

    async def _until_retry(self, at: float | None) -> None:
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(self._retry_changed.wait())]
        if at is not None:
            waits.append(asyncio.ensure_future(self._clock.sleep(at - self._clock.monotonic())))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _translated(self, session: Session, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except (ProtocolError, OSError) as error:
            raise self._error(session, error) from error

    async def _in_thread(self, path: Path, work: Callable[[], T]) -> T:
        """Raises ProtocolError when the thread does not come back. `path`: of what it is at, if somebody asks."""
        assert self._pool is not None, "mailboxes are opened before they are used"
        working = asyncio.get_running_loop().run_in_executor(self._pool, _at, path, work)
        self._in_threads.add(working)
        working.add_done_callback(self._in_threads.discard)
        try:
            return await asyncio.wait_for(asyncio.shield(working), THREAD_LIMIT_S)
        except TimeoutError:
            if working.done():
                raise
            raise ProtocolError(f"its files did not let themselves be used for {THREAD_LIMIT_S:g} s") from None

    def _error(self, session: Session, error: Exception) -> MailboxError:
        return MailboxError(f"session {session.id} of {session.group_folder}: {error}", hint=HINT)

    async def _close_pool(self, pool: Threads) -> None:
        pool.shutdown(wait=False)
        if self._in_threads:
            await asyncio.wait(self._in_threads, timeout=LEAVE_S)

    @staticmethod
    def _lock(locks: WeakValueDictionary[SessionId, asyncio.Lock], session: SessionId) -> asyncio.Lock:
        return locks.setdefault(session, asyncio.Lock())


def _at(_path: Path, work: Callable[[], T]) -> T:
    return work()
