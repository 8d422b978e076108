-- Those of some jobs that were deleted. Index: the primary key.
SELECT job
  FROM deleted_jobs
 WHERE job = ANY (%(jobs)b::uuid[])
