-- Deliveries that events have made. Parameters: one array a column.
INSERT INTO deliveries (id, lane, job, version, hook, event, url, headers, body, state, attempts, created_at, sealed)
SELECT id, lane, job, version, hook, event, url, headers::json, body, 'WAITING', 0, created_at, sealed
  FROM unnest(
      %(id)b::uuid[], %(lane)b::uuid[], %(job)b::uuid[], %(version)b::integer[], %(hook)b::smallint[], %(event)b::text[],
      %(url)b::text[], %(headers)b::text[], %(body)b::bytea[], %(created_at)b::timestamptz[], %(sealed)b::text[]
  ) AS d (id, lane, job, version, hook, event, url, headers, body, created_at, sealed)
