-- A page of jobs, newest first: ids are in order of time. The page is found in the index alone, then its rows are read.
-- Index: the primary key.
SELECT id, state, definition, created_by, position, task_count, progress, created_at, started_at, completed_at, failed_at,
       result, error, parent
  FROM jobs
 WHERE id IN (SELECT id FROM jobs ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s)
 ORDER BY id DESC
