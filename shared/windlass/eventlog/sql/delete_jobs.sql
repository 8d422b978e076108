-- Rows of jobs that are deleted; what belongs to them is swept afterwards. Index: the primary key.
DELETE FROM jobs
 WHERE id = ANY (%(jobs)b::uuid[])
