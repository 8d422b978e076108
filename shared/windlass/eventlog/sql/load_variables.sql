-- The variables of some jobs. Rows: job, name, value. Index: the primary key.
SELECT job, name, value
  FROM job_vars
 WHERE job = ANY (%(jobs)b::uuid[])
