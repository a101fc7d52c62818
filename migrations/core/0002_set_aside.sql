-- An event that fails again and again for reasons of its own is set aside, so that its chat goes on: a status of its
-- own, and a count of its tries. A CHECK cannot be changed in place, so the table is built anew. Foreign keys are not
-- enforced during a migration: the routes go on pointing at the same ids.
CREATE TABLE inbound_events_rebuilt (
    id                  INTEGER PRIMARY KEY,
    channel_type        TEXT NOT NULL,
    instance            TEXT NOT NULL,
    platform_id         TEXT NOT NULL,
    platform_message_id TEXT NOT NULL,
    event_kind          TEXT NOT NULL,
    thread_id           TEXT,
    is_group            INTEGER NOT NULL CHECK (is_group IN (0, 1)),
    mentions_bot        INTEGER NOT NULL CHECK (mentions_bot IN (0, 1)),
    sender_handle       TEXT NOT NULL,
    sender_name         TEXT NOT NULL,
    sender_is_bot       INTEGER NOT NULL CHECK (sender_is_bot IN (0, 1)),
    chat_name           TEXT NOT NULL,
    text                TEXT NOT NULL,
    refers_to           TEXT,
    sent_at             TEXT NOT NULL,
    received_at         TEXT NOT NULL,
    status              TEXT NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'routed', 'dropped', 'set_aside')),
    reason              TEXT,                       -- why it was dropped or set aside, or its last try failed
    tries               INTEGER NOT NULL DEFAULT 0, -- how often routing it has failed
    UNIQUE (channel_type, instance, platform_id, platform_message_id, event_kind)
) STRICT;
INSERT INTO inbound_events_rebuilt
    (id, channel_type, instance, platform_id, platform_message_id, event_kind, thread_id, is_group, mentions_bot,
     sender_handle, sender_name, sender_is_bot, chat_name, text, refers_to, sent_at, received_at, status, reason)
SELECT id, channel_type, instance, platform_id, platform_message_id, event_kind, thread_id, is_group, mentions_bot,
       sender_handle, sender_name, sender_is_bot, chat_name, text, refers_to, sent_at, received_at, status, reason
FROM inbound_events;
DROP TABLE inbound_events;
ALTER TABLE inbound_events_rebuilt RENAME TO inbound_events;
CREATE INDEX inbound_events_new ON inbound_events (channel_type, instance, platform_id, id) WHERE status = 'new';
CREATE INDEX inbound_events_set_aside ON inbound_events (id) WHERE status = 'set_aside';
