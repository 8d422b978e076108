-- All rows of tasks, by their jobs. Index: tasks_of_job.
SELECT job, id, shard, run, key, position, attempt, retries, redelivered, state, queue, worker, definition::text AS definition,
       progress, created_at, scheduled_at, started_at, completed_at, failed_at, result, error, parent, drive_at, drives, stopping
  FROM tasks
 ORDER BY job
