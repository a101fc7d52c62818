-- What calls of the model cost is counted where they pass, in the host: a runner that is killed tells of nothing.

ALTER TABLE model_calls ADD COLUMN agent_group TEXT NOT NULL DEFAULT '';    -- its folder; empty: not known
ALTER TABLE model_calls ADD COLUMN tokens_cache_written_1h INTEGER NOT NULL DEFAULT 0; -- part of tokens_cache_written
ALTER TABLE model_calls ADD COLUMN cost_usd REAL;                           -- NULL: no price is known
ALTER TABLE model_calls ADD COLUMN turn_id TEXT;                            -- NULL: no turn has ended since
CREATE INDEX model_calls_started ON model_calls (started_at);
CREATE INDEX model_calls_turn ON model_calls (session_id, turn_id);

ALTER TABLE model_calls_by_day ADD COLUMN cost_usd REAL NOT NULL DEFAULT 0; -- of those with a price
ALTER TABLE model_calls_by_day ADD COLUMN unpriced INTEGER NOT NULL DEFAULT 0; -- calls without one

-- What passed the gateway in the turn, beside what its runner told of it. NULL: from before this was compared.
ALTER TABLE turn_costs ADD COLUMN seen_calls INTEGER;
ALTER TABLE turn_costs ADD COLUMN seen_tokens INTEGER;

UPDATE model_calls SET agent_group = ifnull((
    SELECT g.folder FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id WHERE s.id = model_calls.session_id
), '');
-- Turns that have ended were counted from what their runners told; their calls are not to be counted a second time.
UPDATE model_calls SET turn_id = '';
