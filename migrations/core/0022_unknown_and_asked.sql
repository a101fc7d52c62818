-- What may have been sent is asked for by session and chat, when upkeep looks whether a session is at rest.
DROP INDEX deliveries_unknown;
CREATE INDEX deliveries_unknown ON deliveries (session_id, channel_type, instance, platform_id)
    WHERE status = 'unknown';
-- Questions that can be answered by typing: how long a message is, is not looked up at each message of a person.
CREATE INDEX deliveries_asked ON deliveries (session_id, seq) WHERE kind = 'question' AND length(content) <= 20000;
