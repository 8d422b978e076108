-- The same for jobs that wait for their next slice. Index: jobs_to_drive.
UPDATE jobs
   SET drive_at = %(now)b::timestamptz + LEAST(%(first_s)b::float8 * 2 ^ LEAST(drives, 16), %(most_s)b::float8) * interval '1 second'
 WHERE shard = %(shard)b::smallint
   AND drive_at > %(now)b::timestamptz + LEAST(%(first_s)b::float8 * 2 ^ LEAST(drives, 16), %(most_s)b::float8) * interval '1 second'
