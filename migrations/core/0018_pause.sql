-- Where it is said what a pause has cut: the chat it was asked for in. NULL: it was asked for at the machine.
ALTER TABLE paused ADD COLUMN channel_type TEXT;
ALTER TABLE paused ADD COLUMN instance TEXT;
ALTER TABLE paused ADD COLUMN platform_id TEXT;
ALTER TABLE paused ADD COLUMN thread_id TEXT;

-- What ended turns took, as their runners told: one row a turn, forgotten with age.
CREATE TABLE turn_costs (
    session_id    TEXT NOT NULL,
    turn_id       TEXT NOT NULL,
    agent_group   TEXT NOT NULL,
    ended_at      TEXT NOT NULL,
    tokens_in     INTEGER NOT NULL,
    tokens_out    INTEGER NOT NULL,
    tokens_cached INTEGER NOT NULL,
    cost_usd      REAL NOT NULL,
    PRIMARY KEY (session_id, turn_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX turn_costs_ended ON turn_costs (ended_at);
