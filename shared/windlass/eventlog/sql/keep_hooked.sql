-- Keep what is known of jobs and tasks after their last event. Parameters: one array a column.
INSERT INTO hooked (id, job, state, definition, ended_at, sealed)
SELECT id, job, state::json, definition::json, ended_at, sealed
  FROM unnest(%(id)b::uuid[], %(job)b::uuid[], %(state)b::text[], %(definition)b::text[], %(ended_at)b::timestamptz[],
              %(sealed)b::text[]) AS h (id, job, state, definition, ended_at, sealed)
    ON CONFLICT (id) DO UPDATE SET state = excluded.state, ended_at = excluded.ended_at
