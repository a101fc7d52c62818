-- What a message holds beside its sender's own words: quoted, forwarded, links, polls, places and the like.

ALTER TABLE inbound_events ADD COLUMN parts TEXT NOT NULL DEFAULT '[]';     -- JSON, see channel_api.Part
