-- What is known of some jobs that have webhooks, and of some of their tasks. Locks: these rows, so that nobody forgets a job
-- while it goes on. Index: the primary key.
SELECT id, job, state::text, definition::text, sealed
  FROM hooked
 WHERE id = ANY (%(ids)b::uuid[])
 ORDER BY definition IS NULL
   FOR UPDATE
