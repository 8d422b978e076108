-- Changed job rows: what can change of them. Parameters: one array a column. Index: the primary key.
UPDATE jobs AS j
   SET version = r.version, run = r.run, state = r.state, position = r.position, progress = r.progress,
       started_at = r.started_at, completed_at = r.completed_at, failed_at = r.failed_at,
       result = r.result, error = r.error, restarted_by = r.restarted_by, parent = r.parent, paused_at = r.paused_at, redo = r.redo,
       drive_at = r.drive_at, drives = r.drives
  FROM unnest(
      %(id)b::uuid[], %(version)b::integer[], %(run)b::integer[], %(state)b::text[], %(position)b::integer[], %(progress)b::float8[],
      %(started_at)b::timestamptz[], %(completed_at)b::timestamptz[], %(failed_at)b::timestamptz[],
      %(result)b::text[], %(error)b::text[], %(restarted_by)b::text[], %(parent)b::uuid[], %(paused_at)b::timestamptz[],
      %(redo)b::json[], %(drive_at)b::timestamptz[], %(drives)b::smallint[]
  ) AS r (id, version, run, state, position, progress, started_at, completed_at, failed_at, result, error, restarted_by, parent,
        paused_at, redo, drive_at, drives)
 WHERE j.id = r.id
