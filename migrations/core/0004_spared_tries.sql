-- The tries of messages that ended because the host stopped the container in order: they are not the message's fault
-- and do not bring it nearer to being given up. Kept until the message is closed.
CREATE TABLE spared_tries (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    message_id TEXT NOT NULL,
    tries      INTEGER NOT NULL,                   -- messages_in.tries when it was claimed
    PRIMARY KEY (session_id, message_id, tries)
) STRICT, WITHOUT ROWID;
