-- A row that the log does not bear out goes. Index: the primary key.
DELETE FROM job_vars
 WHERE job = %(job)s AND name = %(name)s
