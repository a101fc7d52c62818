-- While there is a row for a session, or for its agent group, no container is started for it and none of its requests
-- is carried out.

CREATE TABLE holds (
    session_id     TEXT UNIQUE REFERENCES sessions (id),
    agent_group_id INTEGER UNIQUE REFERENCES agent_groups (id),
    by             TEXT NOT NULL,
    at             TEXT NOT NULL,
    reason         TEXT NOT NULL,                  -- for the operator
    told           TEXT NOT NULL DEFAULT '[]',     -- JSON: the chats whose people know
    CHECK ((session_id IS NULL) <> (agent_group_id IS NULL))
) STRICT;
