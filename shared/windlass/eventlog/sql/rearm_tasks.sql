-- What a former owner of a shard had planned by its own clock, which may have been wrong by hours, is planned anew by ours:
-- everything is driven within its pause from now. Index: tasks_to_drive.
UPDATE tasks
   SET drive_at = %(now)b::timestamptz + LEAST(%(first_s)b::float8 * 2 ^ LEAST(drives, 16), %(most_s)b::float8) * interval '1 second'
 WHERE shard = %(shard)b::smallint
   AND drive_at > %(now)b::timestamptz + LEAST(%(first_s)b::float8 * 2 ^ LEAST(drives, 16), %(most_s)b::float8) * interval '1 second'
