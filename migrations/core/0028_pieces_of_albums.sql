-- What several messages were that came as pieces of one (an album) and were joined: a deletion names one of them only.
-- `content` is what the piece holds by itself, as JSON. The first piece is the joined message, too.
CREATE TABLE album_pieces (
    event_id    INTEGER PRIMARY KEY REFERENCES inbound_events (id) ON DELETE CASCADE,
    joined_into INTEGER NOT NULL REFERENCES inbound_events (id) ON DELETE CASCADE,
    content     TEXT NOT NULL,
    is_deleted  INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1))
) STRICT;
CREATE INDEX album_pieces_joined ON album_pieces (joined_into, event_id);
