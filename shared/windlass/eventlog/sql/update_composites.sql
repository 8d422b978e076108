-- Changed composites: what can change of them. Parameters: one array a column. Index: the primary key.
UPDATE composites AS c
   SET size = r.size, subjob = r.subjob, opened = r.opened, completions = r.completions, failures = r.failures, ended = r.ended
  FROM unnest(
      %(task)b::uuid[], %(size)b::integer[], %(subjob)b::uuid[], %(opened)b::integer[], %(completions)b::integer[], %(failures)b::integer[], %(ended)b::boolean[]
  ) AS r (task, size, subjob, opened, completions, failures, ended)
 WHERE c.task = r.task
