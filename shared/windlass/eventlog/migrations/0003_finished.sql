-- The format whose event types may be written: below `format` while coordinators of an older release may still run.
ALTER TABLE installation ADD COLUMN finished integer NOT NULL DEFAULT 1;
