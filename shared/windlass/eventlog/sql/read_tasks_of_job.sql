-- Every task row of a job, in the order people see. Index: tasks_of_job.
SELECT id, job, position, state, definition, queue, worker, attempt, retries, redelivered, progress, created_at, scheduled_at,
       started_at, completed_at, failed_at, result, error
  FROM tasks
 WHERE job = %(job)s::uuid
 ORDER BY position, started_at NULLS LAST, id
