-- Jobs that were part of another, at most so many. Index: jobs_below.
SELECT id
  FROM jobs
 WHERE parent_job = %(job)s::uuid
 LIMIT %(most)s
