-- The rows of some jobs. Index: the primary key.
SELECT id, definition::text, created_by, created_at, task_count, version, run, state, position, progress,
       started_at, completed_at, failed_at, result, error, restarted_by, trace, parent, parent_job, paused_at, redo::text, drive_at, drives,
       refused
  FROM jobs
 WHERE id = ANY (%(ids)b::uuid[])
