-- Which event is the answer to a question: done again after a crash, it finds that it is the one.
ALTER TABLE questions ADD COLUMN event_id INTEGER;
CREATE INDEX questions_event ON questions (event_id) WHERE event_id IS NOT NULL;
