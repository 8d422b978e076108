-- A job, a page of its task rows in the order people see, and its variables: one statement, so all of one moment, and one round trip.
-- Rows: kind (0: the job, with its creator as queue, its number of tasks as attempt, that of its rows as retries and its pause as
-- scheduled_at; 1: a task; 2: a variable, with name and value as result and error), then a task's columns (the last a moment, if it
-- waits for one) and those of its composite. Indexes: the primary keys, tasks_of_job.
SELECT 0, id, NULL::uuid, position, state, definition, created_by, NULL, task_count,
       (SELECT count(*) FROM tasks WHERE tasks.job = %(job)s::uuid)::integer, 0, progress,
       created_at, paused_at, started_at, completed_at, failed_at, result, error, parent,
       CASE WHEN state IN ('PENDING', 'COMPLETED') THEN (SELECT due_at FROM timers WHERE timers.id = jobs.id) END,
       NULL::integer, NULL::integer, NULL::integer, NULL::uuid
  FROM jobs
 WHERE id = %(job)s::uuid
 UNION ALL
(SELECT 1, t.id, t.job, t.position, t.state, t.definition, t.queue, t.worker, t.attempt, t.retries, t.redelivered, t.progress,
       t.created_at, t.scheduled_at, t.started_at, t.completed_at, t.failed_at, t.result, t.error, t.parent,
       CASE WHEN t.state = 'PENDING' THEN (SELECT due_at FROM timers WHERE id = t.id) END,
       c.size, c.opened, c.completions, c.subjob
  FROM tasks AS t
  LEFT JOIN composites AS c ON c.task = t.id
 WHERE t.job = %(job)s::uuid
 ORDER BY t.position, t.started_at IS NULL, coalesce(t.started_at, t.created_at), t.id
 LIMIT %(limit)s OFFSET %(offset)s)
 UNION ALL
SELECT 2, NULL, NULL, 0, NULL, NULL, NULL, NULL, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, name, value, NULL, NULL, NULL, NULL, NULL,
       NULL
  FROM job_vars
 WHERE job = %(job)s::uuid
