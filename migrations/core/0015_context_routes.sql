-- Whether a wiring brought anything into a session that woke its agent: not looked for among all that it only was told of.

DROP INDEX routes_session;
CREATE INDEX routes_session ON routes (session_id, wiring_id, trigger) WHERE session_id IS NOT NULL;
