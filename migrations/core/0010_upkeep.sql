-- What upkeep leaves of what it deletes.
CREATE TABLE forgotten (
    session_id TEXT PRIMARY KEY REFERENCES sessions (id),
    up_to_seq  INTEGER NOT NULL             -- of its outbound rows up to here some are on record no more
) STRICT, WITHOUT ROWID;

CREATE TABLE model_calls_by_day (
    day                  TEXT NOT NULL,
    agent_group          TEXT NOT NULL,     -- its folder; empty: not known
    model                TEXT NOT NULL,     -- empty: the call did not say
    calls                INTEGER NOT NULL,
    failed               INTEGER NOT NULL,
    tokens_in            INTEGER NOT NULL,
    tokens_out           INTEGER NOT NULL,
    tokens_cached        INTEGER NOT NULL,
    tokens_cache_written INTEGER NOT NULL,
    PRIMARY KEY (day, agent_group, model)
) STRICT, WITHOUT ROWID;
