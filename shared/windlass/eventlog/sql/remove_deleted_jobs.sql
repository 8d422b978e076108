-- A row that the log does not bear out goes. Index: the primary key.
DELETE FROM deleted_jobs
 WHERE job = %(job)s
