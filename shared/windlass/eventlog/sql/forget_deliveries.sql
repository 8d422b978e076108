-- Forget deliveries that were over before a moment, and how they went, the oldest first. Parameters: before, most. Rows: those
-- deliveries. Locks: them, but for what others have locked. Indexes: deliveries_ended, the primary keys.
WITH old AS (
    SELECT id
      FROM deliveries
     WHERE ended_at < %(before)s
     ORDER BY ended_at
     LIMIT %(most)s
       FOR UPDATE SKIP LOCKED
), attempts AS (
    DELETE FROM delivery_attempts AS a
     USING old
     WHERE a.delivery = old.id
)
DELETE FROM deliveries AS d
 USING old
 WHERE d.id = old.id
RETURNING d.id
