-- Tasks that are over are never looked through, however many a session has had.

DROP INDEX tasks_session;
CREATE INDEX tasks_open ON tasks (session_id) WHERE status IN ('active', 'paused');
