-- One job. Index: the primary key.
SELECT id, state, definition, created_by, position, task_count, progress, created_at, started_at, completed_at, failed_at,
       result, error, parent
  FROM jobs
 WHERE id = %(job)s::uuid
