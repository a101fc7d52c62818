-- What a message holds beside its sender's own words: quoted, forwarded, links, polls, places and the like.

ALTER TABLE inbound_events ADD COLUMN parts TEXT NOT NULL DEFAULT '[]';     -- JSON, see channel_api.Part
-- What the platform calls the files that this is one of; NULL once they are joined, or when it is none.
ALTER TABLE inbound_events ADD COLUMN album TEXT;
