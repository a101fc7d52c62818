-- What became of a message: when each wiring decided, which turn its agent had over it, and what that turn sent.

ALTER TABLE routes ADD COLUMN decided_at TEXT;     -- when it last became so; NULL: before this was kept
ALTER TABLE deliveries ADD COLUMN turn_id TEXT;    -- the turn that it was sent in; NULL: none, or before this was kept
CREATE INDEX deliveries_turn ON deliveries (session_id, turn_id) WHERE turn_id IS NOT NULL;

-- The last turn over a message of a session's mailbox.
CREATE TABLE message_turns (
    session_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    turn_id    TEXT NOT NULL,
    began_at   TEXT,                               -- NULL: it had ended when it was first seen
    ended_at   TEXT,                               -- NULL: it runs
    outcome    TEXT CHECK (outcome IN ('completed', 'failed', 'interrupted')),
    error      TEXT,                               -- why it failed or was interrupted
    changed_at TEXT NOT NULL,
    PRIMARY KEY (session_id, message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_turns_changed ON message_turns (changed_at);
