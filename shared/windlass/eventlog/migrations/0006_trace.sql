-- The W3C traceparent that a job came with: whatever is said of the job carries it on, however long that takes.
ALTER TABLE jobs ADD COLUMN trace text NOT NULL DEFAULT '';
