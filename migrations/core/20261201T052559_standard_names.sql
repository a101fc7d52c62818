-- Columns, tables and indexes get the names that engineers expect and that the code uses. No row changes.

ALTER TABLE install RENAME COLUMN only TO singleton;

ALTER TABLE spared_tries RENAME TO uncounted_attempts;
ALTER TABLE uncounted_attempts RENAME COLUMN tries TO attempt;

ALTER TABLE inbound_events RENAME COLUMN tries TO attempts;
DROP INDEX inbound_events_about;
CREATE INDEX inbound_events_refers_to ON inbound_events (channel_type, instance, platform_id, refers_to, event_kind)
    WHERE refers_to IS NOT NULL;

ALTER TABLE deliveries RENAME COLUMN tries_from TO attempts_before_resend;
ALTER TABLE deliveries RENAME COLUMN next_try_at TO next_attempt_at;
ALTER TABLE deliveries RENAME COLUMN card TO card_key;
ALTER TABLE deliveries RENAME COLUMN left_thread TO is_detached_from_thread;
DROP INDEX deliveries_asked;
CREATE INDEX deliveries_questions ON deliveries (session_id, seq)
    WHERE kind = 'question' AND length(content) <= 20000;
DROP INDEX deliveries_said;
CREATE INDEX deliveries_messages ON deliveries (session_id, channel_type, instance, platform_id, seq)
    WHERE kind IN ('chat', 'card', 'question', 'file') AND status != 'dropped';

ALTER TABLE sent_keys RENAME TO idempotency_keys;
DROP INDEX sent_keys_by_key;
CREATE UNIQUE INDEX idempotency_keys_by_key ON idempotency_keys (key);

ALTER TABLE late_failures RENAME COLUMN at TO failed_at;
ALTER TABLE late_failures RENAME COLUMN told TO notified;
DROP INDEX late_failures_untold;
CREATE INDEX late_failures_unnotified ON late_failures (session_id, seq) WHERE notified = 0;

ALTER TABLE tasks RENAME COLUMN run_asked TO run_requested_at;
ALTER TABLE tasks RENAME COLUMN counted TO is_relative;
DROP INDEX tasks_asked;
CREATE INDEX tasks_run_requested ON tasks (run_requested_at) WHERE run_requested_at IS NOT NULL;

ALTER TABLE actions RENAME COLUMN asked_at TO requested_at;
ALTER TABLE actions RENAME COLUMN told TO notified;

ALTER TABLE turn_failures RENAME COLUMN until TO held_until;
ALTER TABLE turn_failures RENAME COLUMN told TO notified_chats;

ALTER TABLE late_messages RENAME COLUMN told TO notified;

ALTER TABLE forgotten RENAME TO retention_watermarks;

ALTER TABLE approvals RENAME COLUMN shown TO rendered_text;
DROP INDEX approvals_about;
CREATE INDEX approvals_subject ON approvals (kind, subject, created_at);

ALTER TABLE approval_refusals RENAME TO unauthorized_decisions;

ALTER TABLE audit_log RENAME COLUMN who TO actor;
ALTER TABLE audit_log RENAME COLUMN what TO action;
ALTER TABLE audit_log RENAME COLUMN about TO target;
DROP INDEX audit_log_about;
CREATE INDEX audit_log_target ON audit_log (target);

ALTER TABLE paused RENAME COLUMN only TO singleton;
ALTER TABLE paused RENAME COLUMN by TO created_by;
ALTER TABLE paused RENAME COLUMN at TO created_at;
ALTER TABLE paused RENAME COLUMN cut TO interrupted_turns;

ALTER TABLE holds RENAME COLUMN by TO created_by;
ALTER TABLE holds RENAME COLUMN at TO created_at;
ALTER TABLE holds RENAME COLUMN told TO notified_chats;

ALTER TABLE turn_costs RENAME COLUMN seen_calls TO gateway_calls;
ALTER TABLE turn_costs RENAME COLUMN seen_tokens TO gateway_tokens;
