-- Take lanes that are due, the longest due first: of each endpoint and of each host no more than it has calls to spare. Parameters:
-- owner, now, most; endpoint_max, host_max: calls at once; endpoints and endpoint_calls, hosts and host_calls: those under way here;
-- after, look: at how many endpoints to look, and after which. One row: the last endpoint looked at, how many, the lanes. Locks: theirs.
-- Index: lanes_due, which gives the endpoints one by one, so that the many lanes of a slow one cost nothing.
WITH RECURSIVE seen AS (
    (SELECT endpoint, 1 AS number FROM lanes WHERE owner = 0 AND endpoint > %(after)b ORDER BY endpoint LIMIT 1)
     UNION ALL
    SELECT next.endpoint, s.number + 1
      FROM seen AS s
     CROSS JOIN LATERAL (
          SELECT l.endpoint FROM lanes AS l WHERE l.owner = 0 AND l.endpoint > s.endpoint ORDER BY l.endpoint LIMIT 1
          ) AS next
     WHERE s.number < %(look)b::integer
), due AS (
    SELECT l.id, l.host, l.due_at
      FROM seen AS s
      LEFT JOIN unnest(%(endpoints)b::text[], %(endpoint_calls)b::integer[]) AS b (endpoint, calls) ON b.endpoint = s.endpoint
     CROSS JOIN LATERAL (
          SELECT id, host, due_at
            FROM lanes
           WHERE endpoint = s.endpoint AND owner = 0 AND due_at <= %(now)b
           ORDER BY due_at
           LIMIT greatest(%(endpoint_max)b::integer - coalesce(b.calls, 0), 0)
             FOR UPDATE SKIP LOCKED
          ) AS l
), placed AS (
    SELECT d.id, d.due_at, row_number() OVER (PARTITION BY d.host ORDER BY d.due_at) + coalesce(b.calls, 0) AS place
      FROM due AS d
      LEFT JOIN unnest(%(hosts)b::text[], %(host_calls)b::integer[]) AS b (host, calls) ON b.host = d.host
), chosen AS (
    SELECT id FROM placed WHERE place <= %(host_max)b ORDER BY due_at LIMIT %(most)b
), taken AS (
    UPDATE lanes AS l
       SET owner = %(owner)b
      FROM chosen AS c
     WHERE l.id = c.id
    RETURNING l.id
)
SELECT (SELECT max(endpoint) FROM seen), (SELECT count(*) FROM seen), ARRAY(SELECT id FROM taken)
