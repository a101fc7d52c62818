-- Whether the time of a task was given as "in ten minutes": it does not move with a clock that is set.

ALTER TABLE tasks ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;
