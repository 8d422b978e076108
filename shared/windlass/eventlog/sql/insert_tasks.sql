-- New task rows. Parameters: one array a column. Index: the primary key.
INSERT INTO tasks (
    id, job, shard, run, key, position, attempt, retries, redelivered, state, queue, worker, definition, progress,
    created_at, scheduled_at, started_at, completed_at, failed_at, result, error, parent, drive_at, drives, stopping
)
SELECT id, job, shard, run, key, position, attempt, retries, redelivered, state, queue, worker, definition, progress,
       created_at, scheduled_at, started_at, completed_at, failed_at, result, error, parent, drive_at, drives, stopping
  FROM unnest(
      %(id)b::uuid[], %(job)b::uuid[], %(shard)b::smallint[], %(run)b::integer[], %(key)b::text[], %(position)b::integer[],
      %(attempt)b::integer[], %(retries)b::integer[], %(redelivered)b::integer[], %(state)b::text[], %(queue)b::text[],
      %(worker)b::text[], %(definition)b::json[], %(progress)b::float8[], %(created_at)b::timestamptz[],
      %(scheduled_at)b::timestamptz[], %(started_at)b::timestamptz[], %(completed_at)b::timestamptz[], %(failed_at)b::timestamptz[],
      %(result)b::text[], %(error)b::text[], %(parent)b::uuid[], %(drive_at)b::timestamptz[], %(drives)b::smallint[], %(stopping)b::text[]
  ) AS r (
      id, job, shard, run, key, position, attempt, retries, redelivered, state, queue, worker, definition, progress,
      created_at, scheduled_at, started_at, completed_at, failed_at, result, error, parent, drive_at, drives, stopping
  )
