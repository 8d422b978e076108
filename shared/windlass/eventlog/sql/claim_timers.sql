-- The timers that are due, oldest first, for this instance alone: they are due again later, after a pause that doubles, unless
-- their effect is on record by then. Parameters: now, most, pause and pause_max in seconds. Locks those rows, and passes over what
-- others have locked. Rows: id, job, kind, number, due_at, fires (this time included). Index: timers_to_fire.
UPDATE timers AS t
   SET fires = LEAST(t.fires + 1, 1000),
       fire_at = %(now)s::timestamptz + make_interval(secs => LEAST(%(pause)s::float8 * 2 ^ LEAST(t.fires, 16), %(pause_max)s::float8))
  FROM (
       SELECT id
         FROM timers
        WHERE fire_at <= %(now)s
        ORDER BY fire_at
        LIMIT %(most)s
          FOR UPDATE SKIP LOCKED
       ) AS due
 WHERE t.id = due.id
RETURNING t.id, t.job, t.kind, t.number, t.due_at, t.fires
