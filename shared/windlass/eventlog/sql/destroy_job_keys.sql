-- The keys of jobs that are deleted: what they sealed cannot be read any more. Index: the primary key.
DELETE FROM job_keys
 WHERE job = ANY (%(jobs)s::uuid[])
