-- What was done to a message later, by the message: its edits, and whether it is deleted.

CREATE INDEX inbound_events_about ON inbound_events (channel_type, instance, platform_id, refers_to, event_kind)
    WHERE refers_to IS NOT NULL;
