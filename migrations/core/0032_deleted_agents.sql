-- An agent group that was deleted stays as a row: its conversations, costs and the record of what it did refer to it.

ALTER TABLE agent_groups ADD COLUMN deleted_at TEXT;
