-- A job, its task rows and its variables: one statement, so all of one moment, and one round trip. Rows: kind (0: the job, with
-- its creator as queue and its number of tasks as attempt; 1: a task; 2: a variable, name and value last), then a task's columns.
-- Indexes: the primary keys, tasks_of_job.
SELECT 0, id, NULL::uuid, position, state, definition, created_by, NULL, task_count, 0, 0, progress,
       created_at, NULL::timestamptz, started_at, completed_at, failed_at, result, error
  FROM jobs
 WHERE id = %(job)s::uuid
 UNION ALL
SELECT 1, id, job, position, state, definition, queue, worker, attempt, retries, redelivered, progress,
       created_at, scheduled_at, started_at, completed_at, failed_at, result, error
  FROM tasks
 WHERE job = %(job)s::uuid
 UNION ALL
SELECT 2, NULL, NULL, 0, NULL, NULL, NULL, NULL, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, name, value
  FROM job_vars
 WHERE job = %(job)s::uuid
