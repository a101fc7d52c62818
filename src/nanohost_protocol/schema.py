"""Declares the tables of both files.

A change here is a new VERSION and new golden files under tests/golden/. All tables are STRICT; times are text as
times.py writes it; JSON is text.
"""

from __future__ import annotations

from dataclasses import dataclass

INBOUND_SQL = """
-- What the agent is to see. Even numbers, written by the host.
CREATE TABLE messages_in (
    seq                 INTEGER PRIMARY KEY CHECK (seq % 2 = 0),
    id                  TEXT NOT NULL UNIQUE,
    kind                TEXT NOT NULL CHECK (kind IN ('chat', 'task', 'webhook', 'system', 'control')),
    timestamp           TEXT NOT NULL,
    status              TEXT NOT NULL DEFAULT 'pending'
                        CHECK (status IN ('pending', 'paused', 'completed', 'failed')),
    process_after       TEXT,                        -- not before; NULL: now
    recurrence          TEXT,
    series_id           TEXT,
    tries               INTEGER NOT NULL DEFAULT 0,  -- raised by the host alone; makes a failed row eligible again
    "trigger"           INTEGER NOT NULL DEFAULT 1 CHECK ("trigger" IN (0, 1)),  -- 0 context, 1 wakes
    on_wake             INTEGER NOT NULL DEFAULT 0 CHECK (on_wake IN (0, 1)),    -- for a fresh container only
    channel_type        TEXT,
    instance            TEXT,
    platform_id         TEXT,
    thread_id           TEXT,
    platform_message_id TEXT,
    source_session_id   TEXT,
    content             TEXT NOT NULL
) STRICT;
CREATE INDEX messages_in_open ON messages_in (seq) WHERE status = 'pending';

-- What became of the agent's messages: a projection of the central ledger.
CREATE TABLE delivered (
    out_id               TEXT PRIMARY KEY,
    status               TEXT NOT NULL,
    platform_message_ids TEXT NOT NULL,              -- JSON array
    changed_at           TEXT NOT NULL
) STRICT;

-- The names the agent may send to. The address says which inbound rows came from there; it is never shown to the agent,
-- and what the host sends to is looked up in the central database.
CREATE TABLE destinations (
    name         TEXT PRIMARY KEY,
    display_name TEXT NOT NULL,
    type         TEXT NOT NULL CHECK (type IN ('channel', 'agent')),
    channel_type TEXT,
    instance     TEXT,
    platform_id  TEXT,
    position     INTEGER NOT NULL
) STRICT;

-- Where an answer goes that names nobody and answers nothing: at most one row.
CREATE TABLE session_routing (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    destination TEXT NOT NULL
) STRICT;

-- out_cursor, ack_cursor, timezone, agent_name, limits.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""

OUTBOUND_SQL = """
-- What the agent says and asks for. Odd numbers, written by the runner.
CREATE TABLE messages_out (
    seq           INTEGER PRIMARY KEY CHECK (seq % 2 = 1),
    id            TEXT NOT NULL UNIQUE,
    turn_id       TEXT NOT NULL,
    in_reply_to   TEXT,              -- a messages_in id; without destination the answer goes where that came from
    timestamp     TEXT NOT NULL,
    deliver_after TEXT,
    recurrence    TEXT,
    kind          TEXT NOT NULL
                  CHECK (kind IN ('chat', 'card', 'question', 'edit', 'reaction', 'file', 'task', 'system')),
    destination   TEXT,              -- a name from the inbound file's destinations
    content       TEXT NOT NULL
) STRICT;

-- The runner takes a message, and says how the turn that contained it ended. `change` grows with every write.
CREATE TABLE processing_ack (
    message_id   TEXT PRIMARY KEY,
    change       INTEGER NOT NULL UNIQUE,
    status       TEXT NOT NULL CHECK (status IN ('processing', 'completed', 'failed', 'abandoned')),
    container_id TEXT NOT NULL,
    turn_id      TEXT NOT NULL,
    tries        INTEGER NOT NULL,   -- messages_in.tries when it was claimed
    changed_at   TEXT NOT NULL,
    error_class  TEXT,
    sentence     TEXT,               -- for the person
    retry_at     TEXT
) STRICT;

CREATE TABLE turns (
    turn_id       TEXT PRIMARY KEY,
    attempt       INTEGER NOT NULL,
    message_ids   TEXT NOT NULL,     -- JSON array, follow-ups pushed into the turn included
    started_at    TEXT NOT NULL,
    ended_at      TEXT,
    outcome       TEXT,
    model         TEXT,
    tokens_in     INTEGER NOT NULL DEFAULT 0,
    tokens_out    INTEGER NOT NULL DEFAULT 0,
    tokens_cached INTEGER NOT NULL DEFAULT 0,
    cost_usd      REAL NOT NULL DEFAULT 0,
    continuation  TEXT               -- the provider's conversation after this turn
) STRICT;

-- Survives containers: the conversation id per provider, …
CREATE TABLE session_state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- Dies with the container: tool in flight, waiting for a person, rate limited until. Cleared at container start.
CREATE TABLE container_state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class FileSchema:
    """The schema of one kind of file. `name`: as error messages have it."""

    name: str
    application_id: int
    sql: str


INBOUND = FileSchema("inbound.db", int.from_bytes(b"NHin", "big"), INBOUND_SQL)
OUTBOUND = FileSchema("outbound.db", int.from_bytes(b"NHou", "big"), OUTBOUND_SQL)
