-- A send whose answer was lost can be held until somebody decides: a status of its own. What an operator decided is on
-- record, and a message that is sent again has its tries afresh.
-- SQLite cannot change a CHECK, so the rows step aside while the table is made anew; attempts point at it by name and
-- stay as they are. References are not enforced during a migration.

CREATE TABLE deliveries_aside AS SELECT * FROM deliveries;
DROP TABLE deliveries;

CREATE TABLE deliveries (
    session_id   TEXT NOT NULL REFERENCES sessions (id),
    seq          INTEGER NOT NULL,
    out_id       TEXT NOT NULL,
    kind         TEXT NOT NULL,
    channel_type TEXT NOT NULL,
    instance     TEXT NOT NULL,
    platform_id  TEXT NOT NULL,
    thread_id    TEXT,
    reply_to     TEXT,                             -- the platform's id of the message being answered
    content      TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('pending', 'sending', 'sent', 'dead', 'dropped', 'unknown')),
    attempts     INTEGER NOT NULL DEFAULT 0,
    tries_from   INTEGER NOT NULL DEFAULT 0,       -- attempts up to here are of before it was sent again
    next_try_at  TEXT,
    reason       TEXT,                             -- why it waits, was dropped, is dead or unknown
    decision     TEXT CHECK (decision IN ('resend', 'drop')),  -- what an operator said last
    receipt      TEXT NOT NULL DEFAULT '[]',       -- JSON: the platform's message ids
    created_at   TEXT NOT NULL,
    changed_at   TEXT NOT NULL,
    PRIMARY KEY (session_id, seq)
) STRICT, WITHOUT ROWID;

INSERT INTO deliveries
    (session_id, seq, out_id, kind, channel_type, instance, platform_id, thread_id, reply_to, content, status,
     attempts, next_try_at, reason, receipt, created_at, changed_at)
SELECT
    session_id, seq, out_id, kind, channel_type, instance, platform_id, thread_id, reply_to, content, status,
    attempts, next_try_at, reason, receipt, created_at, changed_at
FROM deliveries_aside;
DROP TABLE deliveries_aside;

CREATE INDEX deliveries_open ON deliveries (session_id, channel_type, instance, seq)
    WHERE status IN ('pending', 'sending');
CREATE INDEX deliveries_dead ON deliveries (changed_at) WHERE status = 'dead';
CREATE INDEX deliveries_unknown ON deliveries (changed_at) WHERE status = 'unknown';
