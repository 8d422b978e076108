-- New job rows. Parameters: one array a column. Index: the primary key, which refuses a job that exists.
INSERT INTO jobs (
    id, shard, version, run, state, name, definition, created_by, position, task_count, progress,
    created_at, started_at, completed_at, failed_at, result, error, restarted_by, trace, parent, parent_job, paused_at, redo,
    drive_at, drives
)
SELECT id, shard, version, run, state, name, definition, created_by, position, task_count, progress,
       created_at, started_at, completed_at, failed_at, result, error, restarted_by, trace, parent, parent_job, paused_at, redo,
       drive_at, drives
  FROM unnest(
      %(id)b::uuid[], %(shard)b::smallint[], %(version)b::integer[], %(run)b::integer[], %(state)b::text[], %(name)b::text[],
      %(definition)b::json[], %(created_by)b::text[], %(position)b::integer[], %(task_count)b::integer[], %(progress)b::float8[],
      %(created_at)b::timestamptz[], %(started_at)b::timestamptz[], %(completed_at)b::timestamptz[], %(failed_at)b::timestamptz[],
      %(result)b::text[], %(error)b::text[], %(restarted_by)b::text[], %(trace)b::text[],
      %(parent)b::uuid[], %(parent_job)b::uuid[], %(paused_at)b::timestamptz[], %(redo)b::json[], %(drive_at)b::timestamptz[], %(drives)b::smallint[]
  ) AS r (
      id, shard, version, run, state, name, definition, created_by, position, task_count, progress,
      created_at, started_at, completed_at, failed_at, result, error, restarted_by, trace, parent, parent_job, paused_at, redo,
      drive_at, drives
  )
