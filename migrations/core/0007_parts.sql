-- A long message goes out in parts, and what is sent of it is on record: cut once, whatever cuts otherwise later.
-- A message for later has a time of its own, apart from that of its next try: it holds nothing up.
-- Order is kept within a chat of a session, so a chat that waits holds up no other one.

ALTER TABLE deliveries ADD COLUMN not_before TEXT;
UPDATE deliveries SET not_before = next_try_at, next_try_at = NULL WHERE status = 'pending' AND attempts = 0;

DROP INDEX deliveries_open;
CREATE INDEX deliveries_open ON deliveries (session_id, channel_type, instance, platform_id, seq)
    WHERE status IN ('pending', 'sending');

CREATE TABLE delivery_parts (
    session_id TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    text       TEXT NOT NULL,
    plain      TEXT NOT NULL,                      -- the same in words alone, for when the platform refuses the markup
    receipt    TEXT,                               -- JSON: the platform's message ids; NULL: not sent
    PRIMARY KEY (session_id, seq, number),
    FOREIGN KEY (session_id, seq) REFERENCES deliveries (session_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
