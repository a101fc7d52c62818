-- Files that come with a message, what a pressed button brings, and how the card it was on is found.

ALTER TABLE inbound_events ADD COLUMN value TEXT;
ALTER TABLE inbound_events ADD COLUMN attachments TEXT NOT NULL DEFAULT '[]';

ALTER TABLE deliveries ADD COLUMN card TEXT;
CREATE INDEX deliveries_card ON deliveries (card) WHERE card IS NOT NULL;
