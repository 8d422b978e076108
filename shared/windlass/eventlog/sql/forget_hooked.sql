-- Forget jobs that had ended before a moment, the longest ended first. Parameters: before, most. Rows: those jobs. Locks: them, but
-- for what others have locked: a projection that reads one has it locked. Indexes: hooked_ended, the primary keys.
WITH old AS (
    SELECT id
      FROM hooked
     WHERE ended_at < %(before)s
     ORDER BY ended_at
     LIMIT %(most)s
       FOR UPDATE SKIP LOCKED
), variables AS (
    DELETE FROM hooked_vars AS v
     USING old
     WHERE v.job = old.id
)
DELETE FROM hooked AS h
 USING old
 WHERE h.id = old.id
RETURNING h.id
