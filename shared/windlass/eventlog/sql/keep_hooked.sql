-- Keep what is known of jobs and tasks after their last event. Parameters: one array a column.
INSERT INTO hooked (id, job, state, definition)
SELECT id, job, state::json, definition::json
  FROM unnest(%(id)b::uuid[], %(job)b::uuid[], %(state)b::text[], %(definition)b::text[]) AS h (id, job, state, definition)
    ON CONFLICT (id) DO UPDATE SET state = excluded.state
