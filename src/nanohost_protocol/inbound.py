"""Writes and reads inbound.db: the host writes, the runner reads.

The host opens it for one transaction at a time (`inbound_transaction`). A runner reads one snapshot for each poll
(`inbound_snapshot`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from nanohost_protocol.rows import ChatId, DeliveryResult, Destination, InKind, MessageIn, Meta, NewMessageIn
from nanohost_protocol.schema import INBOUND
from nanohost_protocol.sequence import next_even
from nanohost_protocol.sqlite import connect_writer, immediate_transaction, read_snapshot, translate_errors
from nanohost_protocol.times import from_text, to_text

WRITE_BUSY_TIMEOUT_S = 0.3
"""How long a commit waits for a reader. The container manager stops a container that blocks it for longer."""
MAX_KEPT_DELIVERY_RESULTS = 1_000
"""The runner refers to its latest hundred messages, and to those that it has not pruned."""
MAX_LOOKBACK_MESSAGES = 10_000
"""How many messages back a platform's id is looked for: people react to recent messages."""
HELD_UNTIL_KEY = "held_until"
"""The key in meta for the time before which no message is due."""

_INSERT_MESSAGE = """
INSERT INTO messages_in
    (seq, id, kind, timestamp, process_after, "trigger", on_wake,
     channel_type, instance, platform_id, thread_id, platform_message_id, source_session_id, content)
VALUES
    (:seq, :id, :kind, :timestamp, :process_after, :trigger, :on_wake,
     :channel_type, :instance, :platform_id, :thread_id, :platform_message_id, :source_session_id, :content)
ON CONFLICT (id) DO NOTHING
"""
_RETRY = """
UPDATE messages_in SET tries = :tries + 1, process_after = :process_after
WHERE id = :id AND status = 'pending' AND tries = :tries
"""
_CLOSE = "UPDATE messages_in SET status = :status WHERE id = :id AND status = 'pending'"
_UPSERT_DELIVERED = """
INSERT INTO delivered (out_id, status, platform_message_ids, changed_at) VALUES (?, ?, ?, ?)
ON CONFLICT (out_id) DO UPDATE SET status = excluded.status,
    platform_message_ids = excluded.platform_message_ids, changed_at = excluded.changed_at
"""
_DELETE_OLD_DELIVERED = "DELETE FROM delivered WHERE rowid <= (SELECT max(rowid) FROM delivered) - ?"
_HOLD = """
UPDATE messages_in SET process_after = :until
WHERE status = 'pending' AND kind != 'control' AND (process_after IS NULL OR process_after < :until)
"""
_RELEASE_HOLD = "UPDATE messages_in SET process_after = NULL WHERE status = 'pending' AND process_after = ?"
_DELETE_CLOSED = """
DELETE FROM messages_in
WHERE id = ? AND status IN ('completed', 'failed') AND seq < (SELECT max(seq) FROM messages_in)
"""
_CLOSE_OLD_CONTEXT = """
UPDATE messages_in SET status = 'completed'
WHERE status = 'pending' AND kind = 'chat' AND "trigger" = 0 AND on_wake = 0
    AND NOT (json_extract(content, '$.event') IS 'deletion' AND EXISTS (
        SELECT 1 FROM messages_in gone WHERE gone.platform_message_id = messages_in.platform_message_id
            AND gone.status = 'pending' AND gone."trigger" = 1))
    AND seq <= (
    SELECT seq FROM messages_in WHERE status = 'pending' AND kind = 'chat' AND "trigger" = 0 AND on_wake = 0
    ORDER BY seq DESC LIMIT 1 OFFSET ?)
"""
_FIRST_DUE = """
SELECT min(ifnull(process_after, :now)) AS due FROM messages_in
WHERE status = 'pending' AND "trigger" = 1 AND NOT (on_wake = 1 AND tries = 0 AND :has_container)
"""
_CONTROL_MESSAGES = "SELECT * FROM messages_in WHERE status = 'pending' AND kind = 'control' ORDER BY seq"
_LATEST_PER_CHAT = """
SELECT * FROM messages_in WHERE seq IN (
    SELECT max(seq) FROM messages_in
    WHERE status = 'pending' AND "trigger" = 1 AND kind != 'control' AND channel_type IS NOT NULL
    GROUP BY channel_type, instance, platform_id)
ORDER BY seq
"""
_OVERDUE = """
SELECT * FROM messages_in
WHERE status = 'pending' AND "trigger" = 1 AND kind = 'chat' AND channel_type IS NOT NULL AND timestamp < :before
    AND (process_after IS NULL OR process_after <= :due)
ORDER BY seq DESC LIMIT :limit
"""
_NOT_YET_DUE = "SELECT id, process_after FROM messages_in WHERE status = 'pending' AND process_after > ?"
_SET_PROCESS_AFTER = "UPDATE messages_in SET process_after = ? WHERE id = ?"
_SET_META = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


class InboundWriter:
    """Writes the host's file, in one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def insert(self, message: NewMessageIn) -> bool:
        """Add a message with the next number. Returns False if its id exists, because the step is repeated."""
        values = {
            "seq": next_even(self._highest_seq(), self._out_cursor()),
            "id": message.id,
            "kind": message.kind,
            "timestamp": to_text(message.timestamp),
            "process_after": self._effective_process_after(message),
            "trigger": int(message.trigger),
            "on_wake": int(message.on_wake),
            "source_session_id": message.source_session_id,
            "content": message.content,
        }
        for column in ("channel_type", "instance", "platform_id", "thread_id", "platform_message_id"):
            values[column] = getattr(message.origin, column) if message.origin else None
        return self._db.execute(_INSERT_MESSAGE, values).rowcount == 1

    def close(self, message_id: str, status: str) -> bool:
        """Close a message as completed or failed. Returns False if it is closed already."""
        return self._db.execute(_CLOSE, {"id": message_id, "status": status}).rowcount == 1

    def retry(self, message_id: str, *, tries: int, process_after: datetime) -> bool:
        """Make a message eligible again that was claimed at `tries`. Returns False if that was done before."""
        values = {"id": message_id, "tries": tries, "process_after": to_text(process_after)}
        return self._db.execute(_RETRY, values).rowcount == 1

    def reschedule_earlier(self, *, shift: timedelta, now: datetime, held_until: datetime | None = None) -> None:
        """Move messages that are not due yet earlier by `shift`, because the clock was set back. `held_until`: the new
        end of the hold; messages that wait for the hold only are due then."""
        held = _optional_text(held_until)
        for row in self._db.execute(_NOT_YET_DUE, (to_text(now),)).fetchall():
            if row["process_after"] != held:
                sooner = to_text(max(now, from_text(row["process_after"]) - shift))
                self._db.execute(_SET_PROCESS_AFTER, (sooner if held is None else max(held, sooner), row["id"]))
        if held is not None and self._held_until() is not None:
            self.set_meta({HELD_UNTIL_KEY: held})

    def hold(self, until: datetime) -> None:
        """Hold all messages, also later ones, until `until`, except control messages."""
        self._db.execute(_HOLD, {"until": to_text(until)})
        self.set_meta({HELD_UNTIL_KEY: to_text(until)})

    def release_hold(self) -> None:
        """End the hold: messages that waited for it only are due."""
        held = self._held_until()
        if held is not None:
            self._db.execute(_RELEASE_HOLD, (held,))
            self._db.execute("DELETE FROM meta WHERE key = ?", (HELD_UNTIL_KEY,))

    def close_old_context(self, keep: int) -> int:
        """Close all but the newest `keep` messages that are context only: the agent would never read them. A deletion
        stays open while its message is. Returns how many were closed. Call it only while no runner can have claimed
        any."""
        return self._db.execute(_CLOSE_OLD_CONTEXT, (keep,)).rowcount

    def record_delivery_results(self, rows: Iterable[DeliveryResult]) -> None:
        """Write the outcomes of the runner's messages. Keeps the latest MAX_KEPT_DELIVERY_RESULTS."""
        for row in rows:
            ids = json.dumps(row.platform_message_ids)
            self._db.execute(_UPSERT_DELIVERED, (row.out_id, row.status, ids, to_text(row.changed_at)))
        self._db.execute(_DELETE_OLD_DELIVERED, (MAX_KEPT_DELIVERY_RESULTS,))

    def set_destinations(self, destinations: Iterable[Destination], default: str | None) -> None:
        """Replace the address book. `default`: the destination of a message without a destination that answers
        nothing."""
        self._db.execute("DELETE FROM destinations")
        self._db.execute("DELETE FROM session_routing")
        for position, destination in enumerate(destinations):
            chat = destination.chat
            place = (chat.channel_type, chat.instance, chat.platform_id) if chat else (None, None, None)
            self._db.execute(
                "INSERT INTO destinations (name, display_name, type, channel_type, instance, platform_id, position)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (destination.name, destination.display_name, destination.type, *place, position),
            )
        if default is not None:
            self._db.execute("INSERT INTO session_routing (only, destination) VALUES (1, ?)", (default,))

    def set_meta(self, values: Mapping[str, str]) -> None:
        """Set these keys. Other keys keep their values."""
        self._db.executemany(_SET_META, values.items())

    def pending(self) -> Iterator[MessageIn]:
        """Yields the open messages, oldest first."""
        for row in self._db.execute("SELECT * FROM messages_in WHERE status = 'pending' ORDER BY seq"):
            yield MessageIn.from_row(row)

    def first_due(self, now: datetime, *, has_container: bool) -> datetime | None:
        """Returns when the first open message that wakes the agent is due (`now` for one without a time); None if there
        is none. If there `has_container`, on-wake messages that were never claimed are left out: they are for the next
        container."""
        row = self._db.execute(_FIRST_DUE, {"now": to_text(now), "has_container": has_container}).fetchone()
        return None if row["due"] is None else from_text(row["due"])

    def control_messages(self) -> Iterator[MessageIn]:
        """Yields the open control messages, oldest first."""
        for row in self._db.execute(_CONTROL_MESSAGES):
            yield MessageIn.from_row(row)

    def latest_per_chat(self) -> Iterator[MessageIn]:
        """Yields the latest open message of each chat that wakes the agent."""
        for row in self._db.execute(_LATEST_PER_CHAT):
            yield MessageIn.from_row(row)

    def find(self, message_id: str) -> MessageIn | None:
        row = self._db.execute("SELECT * FROM messages_in WHERE id = ?", (message_id,)).fetchone()
        return None if row is None else MessageIn.from_row(row)

    def _effective_process_after(self, message: NewMessageIn) -> str | None:
        wanted = _optional_text(message.process_after)
        held = None if message.kind is InKind.CONTROL else self._held_until()
        return max((one for one in (wanted, held) if one is not None), default=None)

    def _held_until(self) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (HELD_UNTIL_KEY,)).fetchone()
        return None if row is None else str(row[0])

    def delete_closed(self, messages: Iterable[str]) -> None:
        """Delete closed messages. Keeps the latest message, so that numbers never decrease."""
        self._db.executemany(_DELETE_CLOSED, [(id,) for id in messages])

    def delete_delivery_results(self, before: datetime) -> None:
        """Delete the outcomes of the runner's messages that were written before that time."""
        self._db.execute("DELETE FROM delivered WHERE changed_at < ?", (to_text(before),))

    def _highest_seq(self) -> int:
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM messages_in").fetchone()[0])

    def _out_cursor(self) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE key = 'out_cursor'").fetchone()
        return 0 if row is None else int(row[0])


@contextmanager
def inbound_transaction(
    path: Path, *, durable: bool = True, busy_timeout_s: float = WRITE_BUSY_TIMEOUT_S
) -> Iterator[InboundWriter]:
    """Open one transaction on the host's file, and create the file if it is missing. Raises FileLocked if a reader
    holds a lock for `busy_timeout_s`."""
    connection = connect_writer(path, INBOUND, busy_timeout_s=busy_timeout_s, durable=durable)
    with translate_errors(str(path)), closing(connection), immediate_transaction(connection):
        yield InboundWriter(connection)


class InboundReader:
    """Reads one consistent snapshot of the host's file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def due(self, now: datetime) -> Iterator[MessageIn]:
        """Yields the open messages that are due, oldest first, and reads them lazily."""
        rows = self._db.execute(
            "SELECT * FROM messages_in WHERE status = 'pending' AND (process_after IS NULL OR process_after <= ?)"
            " ORDER BY seq",
            (to_text(now),),
        )
        for row in rows:
            yield MessageIn.from_row(row)

    def overdue(self, *, before: datetime, due: datetime, limit: int) -> list[MessageIn]:
        """Returns the latest `limit` open messages that people wrote before `before` and that are due by `due`, oldest
        first. Leaves out messages that are context only."""
        rows = self._db.execute(_OVERDUE, {"before": to_text(before), "due": to_text(due), "limit": limit}).fetchall()
        return [MessageIn.from_row(row) for row in reversed(rows)]

    def next_due(self, now: datetime) -> datetime | None:
        """Returns when the next message is due that is not due yet; None if there is none."""
        row = self._db.execute(
            "SELECT min(process_after) FROM messages_in WHERE status = 'pending' AND process_after > ?",
            (to_text(now),),
        ).fetchone()
        return None if row[0] is None else from_text(row[0])

    def find(self, message_id: str) -> MessageIn | None:
        row = self._db.execute("SELECT * FROM messages_in WHERE id = ?", (message_id,)).fetchone()
        return None if row is None else MessageIn.from_row(row)

    def existing_ids(self, message_ids: Iterable[str]) -> set[str]:
        """Returns those of the ids that exist."""
        sql = "SELECT 1 FROM messages_in WHERE id = ?"
        return {id for id in message_ids if self._db.execute(sql, (id,)).fetchone()}

    def count_open_after(self, seq: int) -> tuple[int, int]:
        """Returns how many open messages have a number above `seq`, and the highest of these numbers, or `seq`."""
        row = self._db.execute(
            "SELECT count(*), ifnull(max(seq), ?) FROM messages_in WHERE status = 'pending' AND seq > ?", (seq, seq)
        ).fetchone()
        return int(row[0]), int(row[1])

    def find_by_seq(self, seq: int) -> MessageIn | None:
        """Returns the message with this number, or None."""
        row = self._db.execute("SELECT * FROM messages_in WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else MessageIn.from_row(row)

    def find_answer(self, out_id: str, *, after: int) -> MessageIn | None:
        """Returns the first answer to the question `out_id`, whatever its status. `after`: the number of the
        question."""
        row = self._db.execute(
            "SELECT * FROM messages_in WHERE seq > ? AND kind = 'chat' AND json_valid(content)"
            " AND json_extract(content, '$.answers') = ? ORDER BY seq LIMIT 1",
            (after, out_id),
        ).fetchone()
        return None if row is None else MessageIn.from_row(row)

    def find_by_platform_id(self, chat: ChatId, platform_message_id: str) -> Iterator[MessageIn]:
        """Yields those of the latest messages of a chat that have this platform id, oldest first."""
        rows = self._db.execute(
            "SELECT * FROM messages_in WHERE seq > (SELECT max(seq) FROM messages_in) - ?"
            " AND platform_message_id = ? AND channel_type = ? AND instance = ? AND platform_id = ? ORDER BY seq",
            (2 * MAX_LOOKBACK_MESSAGES, platform_message_id, chat.channel_type, chat.instance, chat.platform_id),
        )
        for row in rows:
            yield MessageIn.from_row(row)

    def find_out_ids(self, platform_message_id: str) -> tuple[str, ...]:
        """Returns the ids of the runner's messages that have this platform id, in any chat."""
        rows = self._db.execute(
            "SELECT DISTINCT out_id FROM delivered, json_each(platform_message_ids) WHERE json_each.value = ?",
            (platform_message_id,),
        )
        return tuple(row["out_id"] for row in rows)

    def undelivered(self, out_ids: Collection[str]) -> frozenset[str]:
        """Returns those of the runner's messages that were not delivered and will not be, as far as the host has
        reported."""
        rows = self._db.execute(
            "SELECT out_id FROM delivered WHERE out_id IN (SELECT value FROM json_each(?))"
            " AND status IN ('dead', 'dropped')",
            (json.dumps([*out_ids]),),
        )
        return frozenset(row["out_id"] for row in rows)

    def closed_before(self, moment: datetime, *, after: int, limit: int) -> Mapping[int, str]:
        """Returns up to `limit` ids of messages that were closed before that time, by number, lowest first, with
        numbers above `after`. Never the latest message."""
        rows = self._db.execute(
            "SELECT seq, id FROM messages_in WHERE status IN ('completed', 'failed') AND timestamp < ? AND seq > ?"
            " AND seq < (SELECT max(seq) FROM messages_in) ORDER BY seq LIMIT ?",
            (to_text(moment), after, limit),
        )
        return {row["seq"]: row["id"] for row in rows}

    def has_delivery_results_before(self, moment: datetime) -> bool:
        """Returns whether outcomes of the runner's messages were written before that time."""
        row = self._db.execute("SELECT 1 FROM delivered WHERE changed_at < ? LIMIT 1", (to_text(moment),))
        return row.fetchone() is not None

    def highest_seq(self) -> int:
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM messages_in").fetchone()[0])

    def destinations(self) -> tuple[Destination, ...]:
        rows = self._db.execute("SELECT * FROM destinations ORDER BY position")
        return tuple(Destination.from_row(row) for row in rows)

    def default_destination(self) -> str | None:
        row = self._db.execute("SELECT destination FROM session_routing").fetchone()
        return None if row is None else str(row[0])

    def meta(self) -> Meta:
        return {row["key"]: row["value"] for row in self._db.execute("SELECT key, value FROM meta")}


@contextmanager
def inbound_snapshot(path: Path) -> Iterator[InboundReader]:
    """Open a snapshot of the host's file. Raises what `read_snapshot` raises; after FileNotReady and FileLocked, try
    again."""
    with read_snapshot(path, INBOUND) as connection:
        yield InboundReader(connection)


def _optional_text(moment: datetime | None) -> str | None:
    return None if moment is None else to_text(moment)
