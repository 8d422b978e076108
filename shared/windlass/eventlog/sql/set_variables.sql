-- Variables of jobs; a later value wins. Parameters: one array a column. Index: the primary key.
INSERT INTO job_vars (job, name, value)
SELECT job, name, value
  FROM unnest(%(job)b::uuid[], %(name)b::text[], %(value)b::text[]) AS r (job, name, value)
    ON CONFLICT (job, name) DO UPDATE SET value = EXCLUDED.value
