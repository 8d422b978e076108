-- The same for jobs that wait for their next slice. Index: jobs_to_drive.
UPDATE jobs
   SET drive_at = %(now)b, drives = 0
 WHERE shard = %(shard)b::smallint AND drive_at IS NOT NULL
