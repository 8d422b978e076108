-- All variables, by their jobs. Index: the primary key.
SELECT job, name, value
  FROM job_vars
 ORDER BY job
