-- What may have been sent is asked for by session and chat, when upkeep looks whether a session is at rest.
DROP INDEX deliveries_unknown;
CREATE INDEX deliveries_unknown ON deliveries (session_id, channel_type, instance, platform_id)
    WHERE status = 'unknown';
