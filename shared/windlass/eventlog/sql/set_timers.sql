-- Timers that were found in the log, in place of what the same row had. Parameters: one array a column. Index: the primary key.
INSERT INTO timers AS t (id, job, kind, number, due_at, fire_at)
SELECT id, job, kind, number, due_at, due_at
  FROM unnest(%(id)s::uuid[], %(job)s::uuid[], %(kind)s::text[], %(number)s::integer[], %(due_at)s::timestamptz[])
       AS n (id, job, kind, number, due_at)
    ON CONFLICT (id) DO UPDATE
   SET kind = excluded.kind, number = excluded.number, due_at = excluded.due_at, fire_at = excluded.fire_at, fires = 0
