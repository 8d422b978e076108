-- The request that last restarted a job, so that it is carried out once however often it comes.
ALTER TABLE jobs ADD COLUMN restarted_by text NOT NULL DEFAULT '';
