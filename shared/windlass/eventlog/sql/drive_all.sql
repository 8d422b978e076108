-- Everything of a shard that waits is due now: the broker came back empty. Indexes: tasks_to_drive.
UPDATE tasks
   SET drive_at = %(now)b, drives = 0
 WHERE shard = %(shard)b::smallint AND drive_at IS NOT NULL
