"""Writes and reads outbound.db: the runner writes, the host reads.

The runner keeps one connection (`OutboundWriter`). Each method is one transaction, so a kill between two calls leaves
complete steps only. The host reads snapshots (`outbound_snapshot`) and trusts nothing in them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.ids import turn_id
from nanohost_protocol.payloads import MAX_CONTENT_BYTES
from nanohost_protocol.rows import (
    Ack,
    AckStatus,
    MessageIn,
    MessageOut,
    NewMessageOut,
    Turn,
    TurnError,
    Usage,
)
from nanohost_protocol.schema import OUTBOUND
from nanohost_protocol.sequence import MAX_SEQ, next_odd
from nanohost_protocol.sqlite import (
    READ_BUSY_TIMEOUT_S,
    connect_writer,
    immediate_transaction,
    read_snapshot,
    translate_errors,
)
from nanohost_protocol.times import to_text

WRITE_BUSY_TIMEOUT_S = 5.0
"""The host reads for less than a millisecond; it holds a lock for five seconds only if it is broken."""

MAX_KEPT_TURNS = 1000
"""Ended turns that are kept. A turn that is retried is among the latest."""

MAX_KEPT_REFS = 100
"""References to pruned messages that are kept: people react to recent messages."""

MAX_KEPT_QUESTIONS = 20
MAX_KEPT_QUESTION_CHARS = 4000
"""Pruned questions that are kept, and the most characters of their content: an answer may come much later, and is shown
with its question."""

_DELETE_OLD_TURNS = """
DELETE FROM turns WHERE rowid <= (SELECT max(rowid) FROM turns) - ? AND ended_at IS NOT NULL
    AND turn_id NOT IN (SELECT turn_id FROM messages_out) AND turn_id NOT IN (SELECT turn_id FROM processing_ack)
"""
_PRUNABLE = "seq <= ? AND turn_id IN (SELECT turn_id FROM turns WHERE outcome = 'completed')"
_PRUNABLE_REFS = f"""
SELECT id, seq, destination, in_reply_to FROM messages_out
WHERE {_PRUNABLE} AND kind IN ('chat', 'card', 'question', 'file') ORDER BY seq DESC LIMIT ?
"""  # noqa: S608
_PRUNABLE_QUESTIONS = f"""
SELECT id, content FROM messages_out
WHERE {_PRUNABLE} AND kind = 'question' AND length(content) <= {MAX_KEPT_QUESTION_CHARS} ORDER BY seq DESC LIMIT ?
"""  # noqa: S608
_INSERT_MESSAGE = """
INSERT INTO messages_out
    (seq, id, turn_id, in_reply_to, timestamp, deliver_after, recurrence, kind, destination, content)
VALUES
    (:seq, :id, :turn_id, :in_reply_to, :timestamp, :deliver_after, :recurrence, :kind, :destination, :content)
ON CONFLICT (id) DO NOTHING
"""
_UPSERT_ACK = """
INSERT INTO processing_ack (message_id, change, status, container_id, turn_id, tries, changed_at)
VALUES (:message_id, :change, 'processing', :container_id, :turn_id, :tries, :changed_at)
ON CONFLICT (message_id) DO UPDATE SET change = excluded.change, status = excluded.status,
    container_id = excluded.container_id, turn_id = excluded.turn_id, tries = excluded.tries,
    changed_at = excluded.changed_at, error_class = NULL, sentence = NULL, retry_at = NULL
"""
_BEGIN_TURN = """
INSERT INTO turns (turn_id, attempt, message_ids, started_at) VALUES (:turn_id, 1, :message_ids, :started_at)
ON CONFLICT (turn_id) DO UPDATE SET attempt = attempt + 1, message_ids = excluded.message_ids,
    started_at = excluded.started_at, ended_at = NULL, outcome = NULL
"""
_END_TURN = """
UPDATE turns SET ended_at = :ended_at, outcome = :outcome, model = coalesce(:model, model),
    tokens_in = tokens_in + :tokens_in, tokens_out = tokens_out + :tokens_out,
    tokens_cached = tokens_cached + :tokens_cached, cost_usd = cost_usd + :cost_usd, continuation = :continuation
WHERE turn_id = :turn_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRef:
    """What is kept of a pruned message: its number, and the columns that determine its destination."""

    seq: int
    destination: str | None
    in_reply_to: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """What the end of a turn commits in one transaction.

    `error`: None if the turn completed. `state`: written to session_state; a None value removes the key.
    """

    turn_id: str
    messages: Sequence[NewMessageOut]
    usage: Usage
    error: TurnError | None = None
    continuation: str | None = None
    state: Mapping[str, str | None] | None = None


class OutboundWriter:
    """Writes the runner's file. `container_id`: marks its claims, which no later container inherits."""

    def __init__(self, path: Path, *, container_id: str, durable: bool = True) -> None:
        self._path = str(path)
        self._container_id = container_id
        self._db = connect_writer(path, OUTBOUND, busy_timeout_s=WRITE_BUSY_TIMEOUT_S, durable=durable)

    def close(self) -> None:
        self._db.close()

    def abandon_stale_claims(self, now: datetime) -> None:
        """Mark the open claims of earlier containers as abandoned, and delete their container state."""
        with self._transaction():
            left = self._db.execute(
                "SELECT message_id FROM processing_ack WHERE status = 'processing' AND container_id != ?",
                (self._container_id,),
            ).fetchall()
            for row in left:
                self._db.execute(
                    "UPDATE processing_ack SET status = 'abandoned', change = ?, changed_at = ? WHERE message_id = ?",
                    (self._next_change(), to_text(now), row["message_id"]),
                )
            self._db.execute("DELETE FROM container_state")

    def claim(
        self, turn_id: str, messages: Sequence[MessageIn], now: datetime, *, skipped: Sequence[MessageIn] = ()
    ) -> None:
        """Begin a turn and claim its messages. `skipped`: messages to close without a turn."""
        with self._transaction():
            self._db.execute(
                _BEGIN_TURN,
                {"turn_id": turn_id, "message_ids": _ids_json(messages), "started_at": to_text(now)},
            )
            self._insert_claims(turn_id, messages, now)
            self._skip(turn_id, skipped, now)

    def claim_more(
        self, turn_id: str, messages: Sequence[MessageIn], now: datetime, *, skipped: Sequence[MessageIn] = ()
    ) -> None:
        """Add messages to the running turn. `skipped`: messages to close without a turn."""
        with self._transaction():
            turn = self._turn(turn_id)
            assert turn is not None, "a turn is claimed before it is extended"
            together = json.dumps([*turn.message_ids, *(message.id for message in messages)])
            self._db.execute("UPDATE turns SET message_ids = ? WHERE turn_id = ?", (together, turn_id))
            self._insert_claims(turn_id, messages, now)
            self._skip(turn_id, skipped, now)

    def skip(self, messages: Sequence[MessageIn], now: datetime) -> None:
        """Close messages without a turn, one by one."""
        with self._transaction():
            for message in messages:
                self._skip(turn_id(message.id), [message], now)

    def insert(self, message: NewMessageOut, *, highest_seen_seq: int, now: datetime) -> bool:
        """Add a message during a turn. Returns False if an earlier attempt of the turn added it. `highest_seen_seq`:
        the highest number seen in the host's file."""
        with self._transaction():
            return self._insert(message, highest_seen_seq, now)

    def finish(self, end: TurnEnd, *, highest_seen_seq: int, now: datetime) -> None:
        """End a turn: write its last messages, the acks of its messages, its record and the state."""
        with self._transaction():
            for message in end.messages:
                self._insert(message, highest_seen_seq, now)
            self._end_turn(end, now)
            self._ack_all(end, now)
            for key, value in (end.state or {}).items():
                self._set_state(key, value)
            crash_point("runner.finishing")

    def release(self, turn_id: str, now: datetime) -> None:
        """Abandon the claims of a turn that an orderly stop interrupted, so that its messages are retried."""
        with self._transaction():
            for message_id in self._claimed_ids(turn_id):
                self._db.execute(
                    "UPDATE processing_ack SET status = 'abandoned', change = ?, changed_at = ? WHERE message_id = ?",
                    (self._next_change(), to_text(now), message_id),
                )

    def acks(self, message_ids: Iterable[str]) -> dict[str, Ack]:
        """Returns the acks of those of the messages that have one."""
        found = {}
        for message_id in message_ids:
            row = self._db.execute("SELECT * FROM processing_ack WHERE message_id = ?", (message_id,)).fetchone()
            if row is not None:
                found[message_id] = Ack.from_row(row)
        return found

    def turn(self, turn_id: str) -> Turn | None:
        with translate_errors(self._path):
            return self._turn(turn_id)

    def sent_messages(self, turn_id: str) -> tuple[MessageOut, ...]:
        """Returns the messages that the turn has written, in all attempts."""
        rows = self._db.execute("SELECT * FROM messages_out WHERE turn_id = ? ORDER BY seq", (turn_id,))
        return tuple(MessageOut.from_row(row) for row in rows)

    def message_ref(self, out_id: str) -> MessageRef | None:
        """Returns the number and destination of a message, also for a while after it was pruned."""
        row = self._db.execute("SELECT * FROM messages_out WHERE id = ?", (out_id,)).fetchone()
        if row is not None:
            return MessageRef(seq=row["seq"], destination=row["destination"], in_reply_to=row["in_reply_to"])
        kept = self._kept_refs().get(out_id)
        return None if kept is None else MessageRef(seq=kept[0], destination=kept[1], in_reply_to=kept[2])

    def question(self, out_id: str) -> str | None:
        """Returns the content of a question, also for a while after it was pruned."""
        row = self._db.execute(
            "SELECT content FROM messages_out WHERE id = ? AND kind = 'question'", (out_id,)
        ).fetchone()
        return self._kept_questions().get(out_id) if row is None else str(row["content"])

    def state(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM session_state WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_state(self, key: str, value: str | None) -> None:
        """Save a value that later containers can read; None deletes it."""
        with self._transaction():
            self._set_state(key, value)

    def set_progress(self, values: Mapping[str, str]) -> None:
        """Replace container_state, which describes what this container is doing."""
        with self._transaction():
            self._db.execute("DELETE FROM container_state")
            self._db.executemany("INSERT INTO container_state (key, value) VALUES (?, ?)", values.items())

    def prune(self, *, out_cursor: int, ack_cursor: int) -> None:
        """Delete rows that the host has processed: messages of completed turns and final acks; also old turns."""
        with self._transaction():
            self._keep_refs(out_cursor)
            self._keep_questions(out_cursor)
            self._db.execute(f"DELETE FROM messages_out WHERE {_PRUNABLE}", (out_cursor,))  # noqa: S608
            self._db.execute("DELETE FROM processing_ack WHERE change <= ? AND status = 'completed'", (ack_cursor,))
            self._db.execute(_DELETE_OLD_TURNS, (MAX_KEPT_TURNS,))
            crash_point("runner.pruning")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with translate_errors(self._path), immediate_transaction(self._db):
            yield

    def _insert_claims(self, turn_id: str, messages: Sequence[MessageIn], now: datetime) -> None:
        for message in messages:
            self._db.execute(
                _UPSERT_ACK,
                {
                    "message_id": message.id,
                    "change": self._next_change(),
                    "container_id": self._container_id,
                    "turn_id": turn_id,
                    "tries": message.tries,
                    "changed_at": to_text(now),
                },
            )

    def _skip(self, turn_id: str, messages: Sequence[MessageIn], now: datetime) -> None:
        self._insert_claims(turn_id, messages, now)
        for message in messages:
            self._db.execute("UPDATE processing_ack SET status = 'completed' WHERE message_id = ?", (message.id,))

    def _insert(self, message: NewMessageOut, highest_seen_seq: int, now: datetime) -> bool:
        highest = self._db.execute("SELECT coalesce(max(seq), 0) FROM messages_out").fetchone()[0]
        cursor = self._db.execute(
            _INSERT_MESSAGE,
            {
                "seq": next_odd(highest, highest_seen_seq),
                "id": message.id,
                "turn_id": message.turn_id,
                "in_reply_to": message.in_reply_to,
                "timestamp": to_text(now),
                "deliver_after": None if message.deliver_after is None else to_text(message.deliver_after),
                "recurrence": message.recurrence,
                "kind": message.kind,
                "destination": message.destination,
                "content": message.content,
            },
        )
        return cursor.rowcount == 1

    def _end_turn(self, end: TurnEnd, now: datetime) -> None:
        self._db.execute(
            _END_TURN,
            {
                "turn_id": end.turn_id,
                "ended_at": to_text(now),
                "outcome": "completed" if end.error is None else end.error.error_class,
                "model": end.usage.model,
                "tokens_in": end.usage.tokens_in,
                "tokens_out": end.usage.tokens_out,
                "tokens_cached": end.usage.tokens_cached,
                "cost_usd": end.usage.cost_usd or 0.0,
                "continuation": end.continuation,
            },
        )

    def _ack_all(self, end: TurnEnd, now: datetime) -> None:
        error = end.error
        for message_id in self._claimed_ids(end.turn_id):
            self._db.execute(
                "UPDATE processing_ack SET status = ?, change = ?, changed_at = ?, error_class = ?, sentence = ?,"
                " retry_at = ? WHERE message_id = ?",
                (
                    AckStatus.COMPLETED if error is None else AckStatus.FAILED,
                    self._next_change(),
                    to_text(now),
                    error.error_class if error else None,
                    error.sentence if error else None,
                    to_text(error.retry_at) if error and error.retry_at else None,
                    message_id,
                ),
            )

    def _claimed_ids(self, turn_id: str) -> list[str]:
        rows = self._db.execute(
            "SELECT message_id FROM processing_ack WHERE turn_id = ? AND status = 'processing'", (turn_id,)
        )
        return [row["message_id"] for row in rows.fetchall()]

    def _turn(self, turn_id: str) -> Turn | None:
        row = self._db.execute("SELECT * FROM turns WHERE turn_id = ?", (turn_id,)).fetchone()
        return None if row is None else Turn.from_row(row)

    def _set_state(self, key: str, value: str | None) -> None:
        self._db.execute("DELETE FROM session_state WHERE key = ?", (key,))
        if value is not None:
            self._db.execute("INSERT INTO session_state (key, value) VALUES (?, ?)", (key, value))

    def _keep_refs(self, out_cursor: int) -> None:
        rows = self._db.execute(_PRUNABLE_REFS, (out_cursor, MAX_KEPT_REFS)).fetchall()
        if rows:
            pruned = {row["id"]: (row["seq"], row["destination"], row["in_reply_to"]) for row in reversed(rows)}
            kept = list((self._kept_refs() | pruned).items())[-MAX_KEPT_REFS:]
            self._set_state("places", json.dumps(dict(kept)))

    def _kept_refs(self) -> dict[str, tuple[int, str | None, str | None]]:
        places: dict[str, tuple[int, str | None, str | None]] = json.loads(self.state("places") or "{}")
        return places

    def _keep_questions(self, out_cursor: int) -> None:
        rows = self._db.execute(_PRUNABLE_QUESTIONS, (out_cursor, MAX_KEPT_QUESTIONS)).fetchall()
        if rows:
            pruned = {row["id"]: row["content"] for row in reversed(rows)}
            kept = list((self._kept_questions() | pruned).items())[-MAX_KEPT_QUESTIONS:]
            self._set_state("questions", json.dumps(dict(kept)))

    def _kept_questions(self) -> dict[str, str]:
        questions: dict[str, str] = json.loads(self.state("questions") or "{}")
        return questions

    def _next_change(self) -> int:
        # Also saved in session_state: after pruning, the highest number in the table may be below the host's cursor,
        # and
        # the host would never read a change with such a number.
        highest = self._db.execute("SELECT coalesce(max(change), 0) FROM processing_ack").fetchone()[0]
        change = max(int(highest), int(self.state("ack_change") or 0)) + 1
        self._set_state("ack_change", str(change))
        return change


MAX_FIELD_CHARS = 1024
"""The most characters of each field except content. A longer sentence for a person is truncated."""
MAX_READ_CHARS = MAX_CONTENT_BYTES // 4
"""About the most characters of content in one read; the rest comes with the next."""
MAX_MESSAGE_IDS_BYTES = 64 * 1024
"""The most bytes of the ids of a turn's messages, as JSON. A turn with more is skipped."""
MAX_ACKS_PER_READ = 200
"""Each costs the host some statements; the rest comes with the next read."""
MAX_CLAIMS_PER_READ = 500
"""The batch of a turn is much smaller."""
MAX_STATE_ENTRIES = 50
"""Entries of container_state that are read; a runner writes five."""

# No field is read in full before its length is known: it may be as long as the file. Lengths are counted in bytes,
# because length() of a text ends at its first NUL.
_MESSAGES = f"""
SELECT seq, substr(id, 1, {MAX_FIELD_CHARS}) AS id, substr(turn_id, 1, {MAX_FIELD_CHARS}) AS turn_id,
       substr(in_reply_to, 1, {MAX_FIELD_CHARS}) AS in_reply_to, substr(timestamp, 1, {MAX_FIELD_CHARS}) AS timestamp,
       substr(deliver_after, 1, {MAX_FIELD_CHARS}) AS deliver_after, substr(kind, 1, {MAX_FIELD_CHARS}) AS kind,
       substr(destination, 1, {MAX_FIELD_CHARS}) AS destination, substr(recurrence, 1, {MAX_FIELD_CHARS}) AS recurrence,
       CASE WHEN length(CAST(content AS BLOB)) <= {MAX_CONTENT_BYTES} THEN content ELSE '' END AS content
FROM messages_out WHERE seq > :cursor AND seq <= {MAX_SEQ} ORDER BY seq LIMIT :limit
"""  # noqa: S608
_ACKS = f"""
SELECT substr(message_id, 1, {MAX_FIELD_CHARS}) AS message_id, change, substr(status, 1, {MAX_FIELD_CHARS}) AS status,
       substr(container_id, 1, {MAX_FIELD_CHARS}) AS container_id, substr(turn_id, 1, {MAX_FIELD_CHARS}) AS turn_id,
       tries, substr(changed_at, 1, {MAX_FIELD_CHARS}) AS changed_at,
       substr(error_class, 1, {MAX_FIELD_CHARS}) AS error_class, substr(sentence, 1, {MAX_FIELD_CHARS}) AS sentence,
       substr(retry_at, 1, {MAX_FIELD_CHARS}) AS retry_at
FROM processing_ack
"""  # noqa: S608
_CHANGED_ACKS = _ACKS + f"WHERE change > :change AND change <= {MAX_SEQ} ORDER BY change LIMIT :limit"
_OPEN_CLAIMS = _ACKS + "WHERE status = 'processing' LIMIT :limit"
_TURNS = f"""
SELECT substr(turn_id, 1, {MAX_FIELD_CHARS}) AS turn_id, attempt,
       CASE WHEN length(CAST(message_ids AS BLOB)) <= {MAX_MESSAGE_IDS_BYTES} THEN message_ids END AS message_ids,
       substr(started_at, 1, {MAX_FIELD_CHARS}) AS started_at, substr(ended_at, 1, {MAX_FIELD_CHARS}) AS ended_at,
       substr(outcome, 1, {MAX_FIELD_CHARS}) AS outcome, substr(model, 1, {MAX_FIELD_CHARS}) AS model,
       tokens_in, tokens_out, tokens_cached, cost_usd, substr(continuation, 1, {MAX_FIELD_CHARS}) AS continuation
FROM (SELECT * FROM turns ORDER BY rowid DESC LIMIT {MAX_KEPT_TURNS}) ORDER BY started_at DESC LIMIT ?
"""  # noqa: S608
_PROGRESS = f"""
SELECT substr(key, 1, {MAX_FIELD_CHARS}) AS key, substr(value, 1, {MAX_FIELD_CHARS}) AS value
FROM container_state LIMIT {MAX_STATE_ENTRIES}
"""  # noqa: S608
_USAGE = "SELECT tokens_in, tokens_out, tokens_cached, cost_usd FROM turns WHERE turn_id = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class MalformedRow:
    """An outbound row whose columns have wrong types. `seq`: its number, so that the host can skip it."""

    seq: int
    problem: str


class OutboundReader:
    """Reads one consistent snapshot of the runner's file. Limits bound how much work a container can cause in one
    read."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def messages_after(self, cursor: int, *, limit: int = 500) -> list[MessageOut | MalformedRow]:
        """Returns rows with numbers above `cursor`, lowest first; an empty list if there are none.

        Content that is too long is replaced by an empty text. May return fewer rows than `limit` although there are
        more.
        """
        found: list[MessageOut | MalformedRow] = []
        characters = 0
        for row in self._db.execute(_MESSAGES, {"cursor": cursor, "limit": limit}):
            try:
                _check_types(row, nullable=("in_reply_to", "deliver_after", "destination", "recurrence"))
                found.append(MessageOut.from_row(row))
            except (ValueError, TypeError) as error:
                found.append(MalformedRow(seq=row["seq"], problem=str(error)))
            characters += len(row["content"]) if isinstance(row["content"], (str, bytes)) else 0
            if characters > MAX_READ_CHARS:
                break
        return found

    def acks_after(self, change: int, *, limit: int = MAX_ACKS_PER_READ) -> list[Ack]:
        """Returns acks that changed after `change`, oldest change first. Skips malformed rows."""
        return _valid_acks(self._db.execute(_CHANGED_ACKS, {"change": change, "limit": limit}))

    def open_claims(self, *, limit: int = MAX_CLAIMS_PER_READ) -> list[Ack]:
        """Returns the claims of messages whose turn has not ended."""
        return _valid_acks(self._db.execute(_OPEN_CLAIMS, {"limit": limit}))

    def usage(self, turn_id: str) -> Usage | None:
        """Returns the usage of all attempts of a turn; None if the row is missing or malformed."""
        row = self._db.execute(_USAGE, (turn_id,)).fetchone()
        if row is None:
            return None
        tokens = (row["tokens_in"], row["tokens_out"], row["tokens_cached"])
        cost = row["cost_usd"]
        if not all(isinstance(count, int) and 0 <= count <= MAX_SEQ for count in tokens):
            return None
        if not isinstance(cost, int | float) or not 0 <= cost < MAX_SEQ:
            return None
        return Usage(tokens_in=tokens[0], tokens_out=tokens[1], tokens_cached=tokens[2], cost_usd=float(cost))

    def turns(self, *, limit: int = 20) -> list[Turn]:
        """Returns the latest turns, newest first. Skips malformed rows."""
        found = []
        for row in self._db.execute(_TURNS, (limit,)):
            with suppress(ValueError, TypeError, RecursionError):
                found.append(Turn.from_row(row))
        return found

    def progress(self) -> dict[str, str]:
        """Returns container_state: what the container reports that it is doing."""
        return {row["key"]: row["value"] for row in self._db.execute(_PROGRESS)}

    def highest_seq(self) -> int:
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM messages_out").fetchone()[0])


@contextmanager
def outbound_snapshot(
    path: Path, *, busy_timeout_s: float = READ_BUSY_TIMEOUT_S, max_steps: int | None = None
) -> Iterator[OutboundReader]:
    """Open a snapshot of the runner's file. Parameters and errors: see `read_snapshot`; after FileNotReady and
    FileLocked, try again."""
    with read_snapshot(path, OUTBOUND, busy_timeout_s=busy_timeout_s, max_steps=max_steps) as connection:
        yield OutboundReader(connection)


def _check_types(row: sqlite3.Row, *, nullable: tuple[str, ...]) -> None:
    """Check the types of a row: a file that was patched by hand can hold a blob in a text column. Raises TypeError."""
    for column in row.keys():  # noqa: SIM118 (a row iterates over its values)
        wanted = int if column in ("seq", "change", "tries") else str
        if not (isinstance(row[column], wanted) or (row[column] is None and column in nullable)):
            raise TypeError(f"{column} is not {'a number' if wanted is int else 'text'}")


def _valid_acks(rows: Iterable[sqlite3.Row]) -> list[Ack]:
    found = []
    for row in rows:
        if not row["message_id"] or not row["turn_id"]:
            continue  # no message or turn has an empty id; the host uses it for "none"
        with suppress(ValueError, TypeError):
            _check_types(row, nullable=("error_class", "sentence", "retry_at"))
            found.append(Ack.from_row(row))
    return found


def _ids_json(messages: Sequence[MessageIn]) -> str:
    return json.dumps([message.id for message in messages])
