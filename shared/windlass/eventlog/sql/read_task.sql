-- One task row. Index: the primary key.
SELECT id, job, position, state, definition, queue, worker, attempt, retries, redelivered, progress, created_at, scheduled_at,
       started_at, completed_at, failed_at, result, error
  FROM tasks
 WHERE id = %(task)s::uuid
