-- Changed composites: what can change of them. Parameters: one array a column. Index: the primary key.
UPDATE composites AS c
   SET opened = r.opened, completions = r.completions, failures = r.failures, ended = r.ended
  FROM unnest(
      %(task)b::uuid[], %(opened)b::integer[], %(completions)b::integer[], %(failures)b::integer[], %(ended)b::boolean[]
  ) AS r (task, opened, completions, failures, ended)
 WHERE c.task = r.task
