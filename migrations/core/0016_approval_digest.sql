-- A digest of what an approval showed and of what would run, made when it was asked: both are as they were, or it fails.
ALTER TABLE approvals ADD COLUMN digest TEXT NOT NULL DEFAULT '';
