-- The first delivery that waits in each of some lanes, with the key of its job if it needs one. Indexes: deliveries_waiting, the
-- primary key of the keys.
SELECT d.lane, l.host, l.endpoint, d.id, d.job, d.event, d.url, d.headers::text, d.body, d.attempts, d.sealed,
       CASE WHEN d.sealed = '' THEN '' ELSE coalesce((SELECT webhooks FROM job_keys WHERE job = d.job), '') END
  FROM lanes AS l
 CROSS JOIN LATERAL (
      SELECT *
        FROM deliveries
       WHERE lane = l.id AND state = 'WAITING'
       ORDER BY version, hook
       LIMIT 1
      ) AS d
 WHERE l.id = ANY (%(lanes)b::uuid[])
