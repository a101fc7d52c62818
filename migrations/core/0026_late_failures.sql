-- What messages were sent as, on platforms that may give up on a message after they took it: how their word about it,
-- which comes minutes or days later, finds the message.
CREATE TABLE sent_keys (
    session_id TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    key        TEXT NOT NULL,
    PRIMARY KEY (session_id, seq, key),
    FOREIGN KEY (session_id, seq) REFERENCES deliveries (session_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX sent_keys_by_key ON sent_keys (key);

-- What such a platform gave up on. A message of ours that it had taken is `dead` then.
CREATE TABLE late_failures (
    session_id          TEXT NOT NULL,
    seq                 INTEGER NOT NULL,
    platform_message_id TEXT NOT NULL,
    reason              TEXT NOT NULL,
    at                  TEXT NOT NULL,
    told                INTEGER NOT NULL DEFAULT 0,  -- who said it knows
    PRIMARY KEY (session_id, seq, platform_message_id),
    FOREIGN KEY (session_id, seq) REFERENCES deliveries (session_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX late_failures_untold ON late_failures (session_id, seq) WHERE told = 0;
