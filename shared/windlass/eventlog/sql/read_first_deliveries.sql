-- The first delivery that waits in each of some lanes. Index: deliveries_waiting.
SELECT d.lane, l.host, l.endpoint, d.id, d.job, d.event, d.url, d.headers::text, d.body, d.attempts
  FROM lanes AS l
 CROSS JOIN LATERAL (
      SELECT *
        FROM deliveries
       WHERE lane = l.id AND state = 'WAITING'
       ORDER BY version, hook
       LIMIT 1
      ) AS d
 WHERE l.id = ANY (%(lanes)b::uuid[])
