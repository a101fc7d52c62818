-- A lane sends the lowest number first, and the host's notices counted down: of two that waited the later went first.
-- They count up now, from -2^62; those that are there get the number that they would be given today.

PRAGMA defer_foreign_keys = ON;
UPDATE deliveries SET seq = -4611686018427387904 - seq
WHERE session_id != 'host' AND seq BETWEEN -4611686018427387903 AND -1;
UPDATE delivery_attempts SET seq = -4611686018427387904 - seq
WHERE session_id != 'host' AND seq BETWEEN -4611686018427387903 AND -1;
UPDATE delivery_parts SET seq = -4611686018427387904 - seq
WHERE session_id != 'host' AND seq BETWEEN -4611686018427387903 AND -1;
