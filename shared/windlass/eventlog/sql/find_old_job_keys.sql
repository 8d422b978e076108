-- Some keys of jobs that another master key than the current one wraps, held until they are wrapped anew. Index: job_keys_by_master.
SELECT job, wrapped, webhooks <> ''
  FROM job_keys
 WHERE master = ANY (%(others)s)
 LIMIT %(most)s
   FOR UPDATE SKIP LOCKED
