-- Nothing of a deleted job is left, unless its key is. Rows: whether that is so. Index: the primary key.
UPDATE deleted_jobs
   SET swept = true
 WHERE job = %(job)s::uuid AND NOT EXISTS (SELECT FROM job_keys WHERE job = %(job)s::uuid)
RETURNING true
