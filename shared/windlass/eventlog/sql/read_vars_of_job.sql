-- A job's variables. Index: the primary key.
SELECT name, value
  FROM job_vars
 WHERE job = %(job)s::uuid
 ORDER BY name
