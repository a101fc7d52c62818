-- What agents ask of the host, in place of a delivery. The effect and `done` are one transaction; what the agent is
-- told of it comes after, under an id that makes a repetition harmless.
CREATE TABLE actions (
    session_id   TEXT NOT NULL REFERENCES sessions (id),
    seq          INTEGER NOT NULL,                  -- the outbound row's number
    out_id       TEXT NOT NULL,
    name         TEXT NOT NULL,
    arguments    TEXT NOT NULL,                     -- JSON, as the container wrote it: checked when it is carried out
    channel_type TEXT,                              -- where answers go, by the host's own knowledge; NULL: nowhere
    instance     TEXT,
    platform_id  TEXT,
    thread_id    TEXT,
    asked_at     TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('pending', 'done', 'refused', 'failed')),
    reason       TEXT,                              -- why it was refused or failed; of a done one, what to say
    notice_id    TEXT,                              -- the messages_in row that tells the agent; NULL: it is not told
    told         INTEGER NOT NULL DEFAULT 0 CHECK (told IN (0, 1)),
    created_at   TEXT NOT NULL,
    done_at      TEXT,
    PRIMARY KEY (session_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX actions_open ON actions (session_id, seq) WHERE status = 'pending' OR told = 0;
CREATE INDEX actions_done ON actions (session_id, done_at) WHERE status IN ('refused', 'failed');
