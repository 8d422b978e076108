-- Keep the variables that events have set. Parameters: one array a column, no variable twice.
INSERT INTO hooked_vars (job, name, value)
SELECT job, name, value
  FROM unnest(%(job)b::uuid[], %(name)b::text[], %(value)b::text[]) AS v (job, name, value)
    ON CONFLICT (job, name) DO UPDATE SET value = excluded.value
