-- The keys of some jobs, as they were wrapped for the webhooks service. Index: the primary key.
SELECT job, webhooks
  FROM job_keys
 WHERE job = ANY (%(jobs)b::uuid[]) AND webhooks <> ''
