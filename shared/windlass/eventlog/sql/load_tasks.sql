-- The task rows of some jobs that can still change or are being stopped, and those that were asked for by id. Indexes: tasks_of_job, the primary key.
SELECT id, job, run, key, position, attempt, definition::text, created_at, state, retries, redelivered, queue, worker, progress,
       scheduled_at, started_at, completed_at, failed_at, result, error, parent, drive_at, drives, stopping
  FROM tasks
 WHERE job = ANY (%(jobs)b::uuid[]) AND (state IN ('CREATED', 'PENDING', 'SCHEDULED', 'RUNNING') OR stopping <> '')
 UNION
SELECT id, job, run, key, position, attempt, definition::text, created_at, state, retries, redelivered, queue, worker, progress,
       scheduled_at, started_at, completed_at, failed_at, result, error, parent, drive_at, drives, stopping
  FROM tasks
 WHERE id = ANY (%(tasks)b::uuid[])
