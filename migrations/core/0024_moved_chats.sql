-- Chats that go on under another id: what came in under the old one, or names it still, is meant for the new one.

CREATE TABLE moved_chats (
    channel_type TEXT NOT NULL,
    instance     TEXT NOT NULL,
    platform_id  TEXT NOT NULL,                    -- what it was called
    moved_to     TEXT NOT NULL,                    -- what it is called now, however often it has moved
    moved_at     TEXT NOT NULL,
    PRIMARY KEY (channel_type, instance, platform_id)
) STRICT, WITHOUT ROWID;

-- Its thread was deleted or closed on the way: it goes to the chat itself, and says so.
ALTER TABLE deliveries ADD COLUMN left_thread INTEGER NOT NULL DEFAULT 0 CHECK (left_thread IN (0, 1));
