-- How the latest turns of a session failed, for the status screen and for its pauses: while `until` is to come, the
-- model cannot be asked and nothing is started for the session. And the messages of people that nothing became of in time.
CREATE TABLE turn_failures (
    session_id  TEXT PRIMARY KEY REFERENCES sessions (id),
    error_class TEXT NOT NULL,
    sentence    TEXT NOT NULL,              -- for the people who write meanwhile
    since       TEXT NOT NULL,              -- the first failure in a row
    latest_at   TEXT NOT NULL,
    failures    INTEGER NOT NULL,           -- in a row
    until       TEXT,                       -- NULL: the session may go on
    told        TEXT NOT NULL DEFAULT '[]'  -- JSON: the chats that know of the pause
) STRICT, WITHOUT ROWID;

CREATE TABLE late_messages (
    name        TEXT PRIMARY KEY,           -- of what is late: a message, an event, a delivery
    session_id  TEXT REFERENCES sessions (id),  -- NULL: it has not come so far
    channel     TEXT NOT NULL,
    platform_id TEXT NOT NULL,
    cause       TEXT NOT NULL,
    sentence    TEXT NOT NULL,              -- for the operator
    since       TEXT NOT NULL,              -- when it came
    found_at    TEXT NOT NULL,
    told        INTEGER NOT NULL CHECK (told IN (0, 1))  -- whether there is a notice to the person
) STRICT, WITHOUT ROWID;
