-- What a message, a poll or a sweep asks is answered by an index: it costs the same whatever the history is.

CREATE INDEX deliveries_settled ON deliveries (session_id, changed_at) WHERE status IN ('sent', 'dropped', 'dead');
CREATE INDEX deliveries_said ON deliveries (session_id, channel_type, instance, platform_id, seq)
    WHERE kind IN ('chat', 'card', 'question', 'file') AND status != 'dropped';
CREATE INDEX actions_settled ON actions (session_id, ifnull(done_at, created_at))
    WHERE status != 'pending' AND told = 1;

CREATE INDEX approvals_about ON approvals (kind, subject, created_at);
CREATE INDEX approvals_waiting ON approvals (created_at) WHERE status = 'pending';
CREATE INDEX approvals_decided ON approvals (decided_at) WHERE status != 'pending';
CREATE INDEX rules_expires ON rules (expires_at) WHERE ended_at IS NULL;
CREATE INDEX rules_ended ON rules (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX codes_closed ON codes (closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX code_guesses_last ON code_guesses (last_at);
CREATE INDEX dropped_messages_user ON dropped_messages (user_id);

DROP INDEX questions_open;
CREATE INDEX questions_open ON questions (channel_type, instance, platform_id, asked_at) WHERE status = 'open';
CREATE INDEX questions_of_session ON questions (session_id) WHERE status = 'open';
CREATE INDEX questions_asked ON questions (asked_at) WHERE status != 'open';

ALTER TABLE routes ADD COLUMN thread_id TEXT;  -- the event's: has this wiring reached this thread?
UPDATE routes SET thread_id = (SELECT thread_id FROM inbound_events e WHERE e.id = routes.event_id);
CREATE INDEX routes_thread ON routes (session_id, wiring_id, thread_id)
    WHERE trigger = 1 AND session_id IS NOT NULL;
CREATE INDEX routes_written ON routes (session_id, event_id) WHERE outcome = 'written';
CREATE INDEX routes_wiring ON routes (wiring_id, outcome);
CREATE INDEX wirings_in_order ON wirings (messaging_group_id, priority, id);
CREATE INDEX sessions_chat ON sessions (messaging_group_id);
CREATE INDEX destinations_chat ON destinations (messaging_group_id);

DROP INDEX tasks_open;
CREATE INDEX tasks_open ON tasks (session_id, created_at, id) WHERE status IN ('active', 'paused');
CREATE INDEX tasks_ended ON tasks (changed_at) WHERE status IN ('done', 'cancelled');
CREATE INDEX task_runs_ended ON task_runs (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX turn_failures_held ON turn_failures (until) WHERE until IS NOT NULL;
