-- Let lanes wait for as many deliveries more; a new one is due at once. Parameters: one array a column, in the order of the ids,
-- so that two who lock several never wait for each other. Locks: the rows of these lanes.
INSERT INTO lanes (id, host, endpoint, waiting, due_at, owner)
SELECT id, host, endpoint, waiting, due_at, 0
  FROM unnest(%(id)b::uuid[], %(host)b::text[], %(endpoint)b::text[], %(waiting)b::integer[], %(due_at)b::timestamptz[])
       AS l (id, host, endpoint, waiting, due_at)
    ON CONFLICT (id) DO UPDATE SET waiting = lanes.waiting + excluded.waiting
