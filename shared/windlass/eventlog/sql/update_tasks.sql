-- Changed task rows: what can change of them. Parameters: one array a column. Index: the primary key.
UPDATE tasks AS t
   SET attempt = r.attempt, redelivered = r.redelivered, state = r.state, worker = r.worker, progress = r.progress,
       scheduled_at = r.scheduled_at, started_at = r.started_at, completed_at = r.completed_at, failed_at = r.failed_at,
       result = r.result, error = r.error, drive_at = r.drive_at, drives = r.drives, stopping = r.stopping
  FROM unnest(
      %(id)b::uuid[], %(attempt)b::integer[], %(redelivered)b::integer[], %(state)b::text[], %(worker)b::text[], %(progress)b::float8[],
      %(scheduled_at)b::timestamptz[], %(started_at)b::timestamptz[], %(completed_at)b::timestamptz[], %(failed_at)b::timestamptz[],
      %(result)b::text[], %(error)b::text[], %(drive_at)b::timestamptz[], %(drives)b::smallint[], %(stopping)b::text[]
  ) AS r (
      id, attempt, redelivered, state, worker, progress, scheduled_at, started_at, completed_at, failed_at,
      result, error, drive_at, drives, stopping
  )
 WHERE t.id = r.id
