-- All rows of jobs, by id. Index: the primary key.
SELECT id, shard, version, run, state, name, definition::text AS definition, created_by, position, task_count, progress,
       created_at, started_at, completed_at, failed_at, result, error, restarted_by, trace, parent, parent_job, paused_at, redo::text, drive_at, drives
  FROM jobs
 ORDER BY id
