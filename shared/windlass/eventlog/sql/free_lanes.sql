-- Free the lanes of instances whose session has ended, and with it its lock. Index: lanes_taken.
UPDATE lanes
   SET owner = 0
 WHERE owner <> 0
   AND owner NOT IN (
      SELECT objid::integer
        FROM pg_locks
       WHERE locktype = 'advisory' AND classid = %(class)s::oid AND objsubid = 2 AND granted
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      )
RETURNING id
