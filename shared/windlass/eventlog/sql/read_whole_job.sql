-- A job, its task rows in the order people see, and its variables: one statement, so all of one moment, and one round trip.
-- Indexes: the primary keys, tasks_of_job.
SELECT j.id, j.state, j.definition, j.created_by, j.position, j.task_count, j.progress, j.created_at, j.started_at, j.completed_at,
       j.failed_at, j.result, j.error,
       (
           SELECT json_agg(row_to_json(t))
             FROM (
                 SELECT replace(id::text, '-', '') AS id, replace(job::text, '-', '') AS job, position, state, definition, queue,
                        worker, attempt, retries, redelivered, progress, created_at, scheduled_at, started_at, completed_at,
                        failed_at, result, error
                   FROM tasks
                  WHERE job = j.id
                  ORDER BY position, tasks.started_at NULLS LAST, tasks.id
             ) AS t
       ),
       (SELECT json_object_agg(name, value) FROM job_vars WHERE job = j.id)
  FROM jobs AS j
 WHERE j.id = %(job)s::uuid
