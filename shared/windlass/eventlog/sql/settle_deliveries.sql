-- Record how calls went, and let their lanes go: to the next delivery now, or to this one again later. Whose lane is another's by now
-- changes nothing. Parameters: owner, now; one array a column, in the order of the lanes. Locks: the rows of these lanes.
WITH called AS (
    SELECT *
      FROM unnest(
          %(lane)b::uuid[], %(delivery)b::uuid[], %(state)b::text[], %(attempt)b::smallint[], %(at)b::timestamptz[],
          %(took_ms)b::integer[], %(status)b::smallint[], %(error)b::text[], %(due_at)b::timestamptz[]
      ) AS c (lane, delivery, state, attempt, at, took_ms, status, error, due_at)
), freed AS (
    UPDATE lanes AS l
       SET owner = 0, due_at = c.due_at, waiting = l.waiting - (c.state <> 'WAITING')::integer
      FROM called AS c
     WHERE l.id = c.lane AND l.owner = %(owner)b
    RETURNING c.*
), noted AS (
    INSERT INTO delivery_attempts (delivery, number, at, took_ms, status, error)
    SELECT delivery, attempt, at, took_ms, status, error
      FROM freed
)
UPDATE deliveries AS d
   SET state = f.state, attempts = f.attempt, ended_at = CASE WHEN f.state <> 'WAITING' THEN %(now)b::timestamptz END
  FROM freed AS f
 WHERE d.id = f.delivery
