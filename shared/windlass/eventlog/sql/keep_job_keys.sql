-- The keys of new jobs. Parameters: one array a column.
INSERT INTO job_keys (job, master, wrapped, webhooks)
SELECT job, master, wrapped, webhooks
  FROM unnest(%(job)b::uuid[], %(master)b::text[], %(wrapped)b::text[], %(webhooks)b::text[]) AS k (job, master, wrapped, webhooks)
