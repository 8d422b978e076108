-- The keys of some jobs, wrapped. Index: the primary key.
SELECT job, wrapped
  FROM job_keys
 WHERE job = ANY (%(jobs)b::uuid[])
