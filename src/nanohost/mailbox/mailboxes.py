"""The host's half of all mailboxes: writes inbound.db, rings the runner, reads outbound.db.

Promises: what `update` returned is on disk; one session's writes never overlap; all work happens in a small pool of
threads, so that a thousand sessions cost no thread. Never: a write to outbound.db, or trust in what it holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from nanohost.errors import MailboxError
from nanohost.mailbox.paths import prepare, ring, session_layout
from nanohost.mailbox.untrusted import check_outbound
from nanohost.model import Session, SessionId
from nanohost_protocol.errors import Busy as FileBusy
from nanohost_protocol.errors import NotReady, ProtocolError
from nanohost_protocol.inbound import InboundReader, InboundWriter, reading_inbound, writing
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.outbound import OutboundReader, reading_outbound
from nanohost_protocol.rows import NewMessageIn

T = TypeVar("T")

MOST_CONTEXT = 200
"""Messages that wake nobody and wait for one that does: more than a runner takes along, so that none is missed."""
THREADS = 2
"""Session files are small and local: two threads keep up with thousands of sessions."""


class Mailboxes:
    """All sessions' files below one folder."""

    def __init__(self, sessions: Path, *, durable: bool = True) -> None:
        self._sessions = sessions
        self._durable = durable
        self._pool: ThreadPoolExecutor | None = None
        self._writing: dict[SessionId, asyncio.Lock] = {}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Have the threads while entered; leaving waits for writes that began."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="mailbox")
        try:
            yield
        finally:
            await asyncio.to_thread(self._pool.shutdown)

    def layout(self, session: Session) -> SessionLayout:
        return session_layout(self._sessions, session.group_folder, session.id)

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
        """One transaction on inbound.db; the folder is made if it is not there.

        Raises MailboxError: the file is damaged, of another version, held by a reader, or the disk refuses.
        """
        layout = self.layout(session)

        def write() -> T:
            if not layout.inbound_db.exists():
                prepare(layout)
            with writing(layout.inbound_db, durable=self._durable) as box:
                return change(box)

        async with self._lock(session.id):
            return await self._in_pool(session, write)

    async def outbound(self, session: Session, read: Callable[[OutboundReader], T]) -> T | None:
        """Look into outbound.db, one snapshot. None means no news yet: not there, being rolled back, or locked.

        Raises MailboxError when the file is not one the host reads.
        """
        path = self.layout(session).outbound_db

        def look() -> T | None:
            try:
                check_outbound(path)
                with reading_outbound(path) as box:
                    return read(box)
            except (NotReady, FileBusy):
                return None
            except (ProtocolError, OSError):
                raise
            except Exception as error:
                # Whoever asks is ready for a MailboxError: what a container wrote must not end more than its session.
                raise ProtocolError(f"{path} holds what cannot be read: {type(error).__name__}: {error}") from error

        return await self._in_pool(session, look)

    async def needs_rollback(self, session: Session) -> bool:
        """Whether a dead runner left a journal that only a runner may roll back: nothing can be read until then."""
        path = self.layout(session).outbound_db
        journal = path.with_name(path.name + "-journal")

        def look() -> bool:
            try:
                return journal.lstat().st_size > 0
            except FileNotFoundError:
                return False

        return await self._in_pool(session, look)

    async def inbound(self, session: Session, read: Callable[[InboundReader], T]) -> T:
        """Look into our own inbound.db. Raises MailboxError."""
        path = self.layout(session).inbound_db

        def look() -> T:
            with reading_inbound(path) as box:
                return read(box)

        return await self._in_pool(session, look)

    async def _in_pool(self, session: Session, work: Callable[[], T]) -> T:
        assert self._pool is not None, "mailboxes are opened before they are used"
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except (ProtocolError, OSError) as error:
            raise MailboxError(
                f"session {session.id} of {session.group_folder}: {error}", hint="nanohost verify shows what is wrong"
            ) from error

    def _lock(self, session: SessionId) -> asyncio.Lock:
        return self._writing.setdefault(session, asyncio.Lock())
