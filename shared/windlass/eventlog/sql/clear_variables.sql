-- Some jobs run anew: what their tasks had set is forgotten. Index: the primary key.
DELETE FROM job_vars
 WHERE job = ANY (%(jobs)b::uuid[])
