-- New composites. Parameters: one array a column. Index: the primary key.
INSERT INTO composites (task, job, size, opened, completions, failures, ended, subjob, scope, again)
SELECT task, job, size, opened, completions, failures, ended, subjob, scope, again
  FROM unnest(
      %(task)b::uuid[], %(job)b::uuid[], %(size)b::integer[], %(opened)b::integer[], %(completions)b::integer[], %(failures)b::integer[],
      %(ended)b::boolean[], %(subjob)b::uuid[], %(scope)b::json[], %(again)b::uuid[]
  ) AS r (task, job, size, opened, completions, failures, ended, subjob, scope, again)
