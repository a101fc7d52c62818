"""Reads a consistent view of one session from the central database and its two files, for its checks.

Promises: opens files read-only, outbound.db in a process that can be killed, each for less time than a writer waits;
uses bounded memory for each session, however large its files are. Blocking: call it in a thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from nanohost.config.home import Home
from nanohost.mailbox import queries
from nanohost.mailbox.blocking_reader import BlockingReader, blocking_reader
from nanohost.mailbox.queries import MailboxSummary
from nanohost.mailbox.session_dirs import session_layout
from nanohost.model import LeaseId, SessionId
from nanohost.verify.finding import MAX_ROWS
from nanohost.verify.store import central_snapshot
from nanohost_protocol.errors import FileLocked, FileNotReady, ProtocolError
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.rows import Ack
from nanohost_protocol.schema import INBOUND
from nanohost_protocol.sqlite import READ_BUSY_TIMEOUT_S, read_snapshot

ROUTES_CHUNK_SIZE = 2000
"""Routes that are looked up each time inbound.db is opened: a few milliseconds, so that the host's writes do
not wait."""
MAX_OUTBOUND_ROWS = 10_000
"""The most rows of one outbound.db that are checked. A runner deletes processed rows, so only a flood has more."""

SESSIONS = """
SELECT s.id, g.folder, s.out_cursor, s.ack_cursor, s.lease, s.due_at IS NOT NULL AS due
FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id ORDER BY s.id
"""
ROUTES = """
SELECT session_id, message_id, outcome FROM routes
WHERE session_id IS NOT NULL AND message_id IS NOT NULL ORDER BY session_id
"""
ODD_INBOUND = "SELECT seq FROM messages_in WHERE seq % 2 != 0 LIMIT ?"
PENDING = """
SELECT id, channel_type, instance, platform_id, platform_message_id FROM messages_in
WHERE status = 'pending' AND "trigger" = 1 AND NOT (on_wake = 1 AND tries = 0 AND ?) ORDER BY seq LIMIT ?
"""
MESSAGE_STATUS = "SELECT id, status, tries FROM messages_in WHERE id = ?"
IN_MAILBOX = "SELECT 1 FROM messages_in WHERE id = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A session's row in the central database. `is_due`: it has work, now or later."""

    id: SessionId
    group_folder: str
    out_cursor: int
    ack_cursor: int
    lease: LeaseId | None
    is_due: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingMessage:
    """A message that waits in inbound.db, and its origin."""

    id: str
    origin: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedMessage:
    """The state in inbound.db of a message with an open claim in outbound.db."""

    status: str
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundView:
    """The content of inbound.db. `pending_messages`: waiting messages that trigger a turn, without those for a fresh
    container while there is another one. `claimed_messages`: messages with an open claim."""

    odd_seqs: tuple[int, ...]
    pending_messages: tuple[PendingMessage, ...]
    claimed_messages: Mapping[str, ClaimedMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteArrivals:
    """The comparison of routes with rows. `missing`: messages of written routes without a row. `premature`: messages of
    waiting routes with a row."""

    has_written: bool
    missing: tuple[str, ...]
    premature: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """A session and its files. A file that cannot be read is None; its problem is None if that is no error."""

    row: SessionRow
    layout: SessionLayout
    central: sqlite3.Connection
    is_host_running: bool
    inbound: InboundView | None
    inbound_problem: str | None
    outbound: MailboxSummary | None
    outbound_problem: str | None
    arrivals: RouteArrivals

    @property
    def has_messages(self) -> bool:
        """Whether it has messages, so that its whole folder must exist."""
        return self.arrivals.has_written or self.row.out_cursor > 0


def iter_session_views(home: Home, *, is_host_running: bool) -> Generator[SessionView, None, None]:
    """Yields a view of each session, with one snapshot of the central database. Raises StoreError."""
    with central_snapshot(home.database) as central, blocking_reader() as reader:
        routes = _RoutesBySession(central.execute(ROUTES))
        for found in central.execute(SESSIONS):
            row = SessionRow(
                id=SessionId(found["id"]),
                group_folder=found["folder"],
                out_cursor=found["out_cursor"],
                ack_cursor=found["ack_cursor"],
                lease=found["lease"],
                is_due=bool(found["due"]),
            )
            layout = session_layout(home.sessions, row.group_folder, row.id)
            yield _build_view(row, layout, routes.for_session(row.id), central, reader, is_host_running=is_host_running)


class _RoutesBySession:
    """Iterates over the sorted routes in parallel to the sorted sessions, so that neither is kept in memory."""

    def __init__(self, rows: Iterator[sqlite3.Row]) -> None:
        self._groups = groupby(rows, key=lambda row: str(row["session_id"]))
        self._next = next(self._groups, None)

    def for_session(self, session: SessionId) -> Iterator[sqlite3.Row]:
        while self._next is not None and self._next[0] < session:
            self._next = next(self._groups, None)
        if self._next is not None and self._next[0] == session:
            yield from self._next[1]


def _build_view(
    row: SessionRow,
    layout: SessionLayout,
    routes: Iterator[sqlite3.Row],
    central: sqlite3.Connection,
    reader: BlockingReader,
    *,
    is_host_running: bool,
) -> SessionView:
    outbound, outbound_problem = _read_outbound(layout.outbound_db, row, reader)
    inbound, inbound_problem = _read_inbound(layout.inbound_db, outbound.claims if outbound else (), row.lease)
    return SessionView(
        row=row,
        layout=layout,
        central=central,
        is_host_running=is_host_running,
        inbound=inbound,
        inbound_problem=inbound_problem,
        outbound=outbound,
        outbound_problem=outbound_problem,
        arrivals=_compare_routes(layout.inbound_db, routes, is_readable=inbound is not None),
    )


def _read_outbound(path: Path, row: SessionRow, reader: BlockingReader) -> tuple[MailboxSummary | None, str | None]:
    try:
        return reader.read(
            path, queries.summary(row.ack_cursor, limit=MAX_OUTBOUND_ROWS), busy_s=READ_BUSY_TIMEOUT_S
        ), None
    except (FileNotReady, FileLocked):
        return None, None
    except (ProtocolError, OSError) as error:
        return None, str(error)


def _read_inbound(path: Path, claims: Sequence[Ack], lease: LeaseId | None) -> tuple[InboundView | None, str | None]:
    try:
        with read_snapshot(path, INBOUND) as db:
            return InboundView(
                odd_seqs=tuple(row["seq"] for row in db.execute(ODD_INBOUND, (MAX_ROWS,))),
                pending_messages=tuple(
                    _pending_message(row) for row in db.execute(PENDING, (lease is not None, MAX_ROWS))
                ),
                claimed_messages=_claimed_messages(db, claims),
            ), None
    except FileNotReady:
        return None, None
    except (ProtocolError, OSError) as error:
        return None, str(error)


def _pending_message(row: sqlite3.Row) -> PendingMessage:
    return PendingMessage(
        id=row["id"], origin=(row["channel_type"], row["instance"], row["platform_id"], row["platform_message_id"])
    )


def _claimed_messages(db: sqlite3.Connection, claims: Sequence[Ack]) -> Mapping[str, ClaimedMessage]:
    rows = [row for claim in claims for row in db.execute(MESSAGE_STATUS, (claim.message_id,))]
    return {row["id"]: ClaimedMessage(status=row["status"], tries=row["tries"]) for row in rows}


def _compare_routes(path: Path, routes: Iterator[sqlite3.Row], *, is_readable: bool) -> RouteArrivals:
    any_written, missing, premature = False, list[str](), list[str]()
    while chunk := list(islice(routes, ROUTES_CHUNK_SIZE)):
        written, waiting = (
            [str(row["message_id"]) for row in chunk if row["outcome"] in outcomes]
            for outcomes in (("written", "context"), ("waiting",))
        )
        any_written = any_written or bool(written)
        existing = _find_in_mailbox(path, written + waiting) if is_readable else None
        if existing is not None:
            missing = [*missing, *(id for id in written if id not in existing)][:MAX_ROWS]
            premature = [*premature, *(id for id in waiting if id in existing)][:MAX_ROWS]
    return RouteArrivals(has_written=any_written, missing=tuple(missing), premature=tuple(premature))


def _find_in_mailbox(path: Path, ids: Sequence[str]) -> set[str] | None:
    """Returns which of these ids have a row. None if the file cannot be read any more, which another check reports."""
    try:
        with read_snapshot(path, INBOUND) as db:
            return {id for id in ids if db.execute(IN_MAILBOX, (id,)).fetchone()}
    except (ProtocolError, OSError):
        return None
