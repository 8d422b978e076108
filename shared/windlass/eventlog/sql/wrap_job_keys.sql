-- Keys of jobs, wrapped anew. Parameters: one array a column. Index: the primary key.
UPDATE job_keys AS j
   SET master = k.master, wrapped = k.wrapped, webhooks = k.webhooks
  FROM unnest(%(job)s::uuid[], %(master)s::text[], %(wrapped)s::text[], %(webhooks)s::text[]) AS k (job, master, wrapped, webhooks)
 WHERE j.job = k.job
