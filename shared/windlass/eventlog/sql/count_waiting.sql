-- How many tasks of some shards wait for a worker, by queue, and since when the first does. Index: tasks_to_drive, which has all
-- rows that wait for somebody; the cost grows with those and not with what there ever was.
SELECT queue, count(*), min(scheduled_at)
  FROM tasks
 WHERE shard = ANY (%(shards)b::smallint[]) AND drive_at IS NOT NULL AND state = 'SCHEDULED'
 GROUP BY queue
