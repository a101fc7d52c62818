-- Where a channel was in its platform's stream when the host ended, in words of the channel's own: Discord's session and the
-- number in it. One row an instance.

CREATE TABLE channel_checkpoints (
    channel_type TEXT NOT NULL,
    instance     TEXT NOT NULL,
    checkpoint   TEXT NOT NULL,
    saved_at     TEXT NOT NULL,
    PRIMARY KEY (channel_type, instance)
) STRICT, WITHOUT ROWID;
