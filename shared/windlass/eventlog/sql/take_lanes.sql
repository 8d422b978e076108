-- Take lanes that are due, the longest due first, of each host no more than it has calls to spare. Parameters: owner, now, most,
-- calls_max; hosts and calls: how many this instance has under way. Rows: the lanes. Locks: theirs. Index: lanes_free, which gives
-- the hosts one by one, so that the many lanes of a slow one cost nothing.
WITH RECURSIVE hosts AS (
    (SELECT host FROM lanes WHERE owner = 0 ORDER BY host LIMIT 1)
     UNION ALL
    SELECT (SELECT l.host FROM lanes AS l WHERE l.owner = 0 AND l.host > h.host ORDER BY l.host LIMIT 1)
      FROM hosts AS h
     WHERE h.host IS NOT NULL
), due AS (
    SELECT l.id, l.due_at
      FROM hosts AS h
      LEFT JOIN unnest(%(hosts)b::text[], %(calls)b::integer[]) AS b (host, calls) ON b.host = h.host
     CROSS JOIN LATERAL (
          SELECT id, due_at
            FROM lanes
           WHERE host = h.host AND owner = 0 AND due_at <= %(now)b
           ORDER BY due_at
           LIMIT greatest(%(calls_max)b::integer - coalesce(b.calls, 0), 0)
             FOR UPDATE SKIP LOCKED
          ) AS l
), chosen AS (
    SELECT id FROM due ORDER BY due_at LIMIT %(most)b
)
UPDATE lanes AS l
   SET owner = %(owner)b
  FROM chosen AS c
 WHERE l.id = c.id
RETURNING l.id
