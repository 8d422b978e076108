-- Keep the variables that events have set. Parameters: one array a column, no variable twice.
INSERT INTO hooked_vars (job, name, value, sealed)
SELECT job, name, value, sealed
  FROM unnest(%(job)b::uuid[], %(name)b::text[], %(value)b::text[], %(sealed)b::text[]) AS v (job, name, value, sealed)
    ON CONFLICT (job, name) DO UPDATE SET value = excluded.value, sealed = excluded.sealed
