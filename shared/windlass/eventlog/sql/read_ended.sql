-- Which of some jobs have ended. Index: the primary key.
SELECT id
  FROM jobs
 WHERE id = ANY (%(jobs)s::uuid[])
   AND state IN ('COMPLETED', 'FAILED', 'CANCELLED')
