-- What agents are to do, or to send, at a time: once or again and again. The central database is the truth; the
-- session's mailbox gets a message when a task falls due.
CREATE TABLE tasks (
    id                TEXT PRIMARY KEY,
    session_id        TEXT NOT NULL,               -- gone: the task is cancelled when it next falls due
    kind              TEXT NOT NULL CHECK (kind IN ('agent', 'message')),
    content           TEXT NOT NULL,               -- the prompt, or the JSON content of the message to send
    out_kind          TEXT,                        -- kind 'message': what content is
    cron              TEXT,                        -- NULL: once
    timezone          TEXT NOT NULL,
    next_due          TEXT,
    run_asked         TEXT,                        -- a run beside the schedule that somebody asked for
    status            TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'cancelled', 'done')),
    misfire           TEXT NOT NULL CHECK (misfire IN ('latest', 'all', 'skip')),
    failures_in_a_row INTEGER NOT NULL DEFAULT 0,
    reason            TEXT,                        -- why it is paused, cancelled or done
    channel_type      TEXT,                        -- where answers go; NULL: the session's default
    instance          TEXT,
    platform_id       TEXT,
    thread_id         TEXT,
    created_by        TEXT NOT NULL,
    created_at        TEXT NOT NULL,
    changed_at        TEXT NOT NULL,
    CHECK (status != 'active' OR next_due IS NOT NULL)
) STRICT;
CREATE INDEX tasks_due ON tasks (next_due) WHERE status = 'active';
CREATE INDEX tasks_asked ON tasks (run_asked) WHERE run_asked IS NOT NULL;
CREATE INDEX tasks_session ON tasks (session_id);

-- One row a time that a task fell due and was acted upon.
CREATE TABLE task_runs (
    id            INTEGER PRIMARY KEY,
    task_id       TEXT NOT NULL REFERENCES tasks (id),
    session_id    TEXT NOT NULL,
    due           TEXT NOT NULL,
    message_id    TEXT NOT NULL,                   -- in the session's mailbox, or the delivery's own id
    decided_at    TEXT NOT NULL,
    started_at    TEXT,                            -- written to the session; NULL: about to be, or never was
    ended_at      TEXT,
    outcome       TEXT CHECK (outcome IN ('completed', 'failed', 'skipped')),
    cost_usd      REAL,
    tokens_in     INTEGER,
    tokens_out    INTEGER,
    tokens_cached INTEGER,
    error         TEXT,                            -- why it failed or was skipped
    UNIQUE (task_id, due)
) STRICT;
CREATE INDEX task_runs_open ON task_runs (session_id) WHERE ended_at IS NULL;
CREATE INDEX task_runs_unstarted ON task_runs (id) WHERE started_at IS NULL AND ended_at IS NULL;
