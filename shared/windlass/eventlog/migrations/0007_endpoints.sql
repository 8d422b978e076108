-- Lanes are taken by endpoint, so that one that hangs does not hold the others of its host. Nothing waits there for longer than a retry.
ALTER TABLE lanes ADD COLUMN endpoint text NOT NULL DEFAULT '';    -- of host and path: what counts as one receiver
CREATE INDEX lanes_due ON lanes (endpoint, due_at) WHERE owner = 0;
DROP INDEX lanes_free;
