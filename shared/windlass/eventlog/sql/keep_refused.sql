-- Keep the last requests that were refused of some jobs. Parameters: one array a column. Index: the primary key.
UPDATE jobs AS j
   SET refused = r.refused
  FROM unnest(%(id)b::uuid[], %(refused)b::text[]) AS r (id, refused)
 WHERE j.id = r.id
