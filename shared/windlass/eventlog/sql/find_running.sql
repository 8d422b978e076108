-- Who holds something of these shards: runs it, or has not confirmed that it was stopped. Rows: worker, job, task, run, attempt.
-- Indexes: tasks_running, tasks_stopping.
SELECT worker, job, id, run, attempt
  FROM tasks
 WHERE state = 'RUNNING' AND worker <> '' AND shard = ANY (%(shards)b::smallint[])
 UNION ALL
SELECT stopping, job, id, run, attempt
  FROM tasks
 WHERE stopping <> '' AND shard = ANY (%(shards)b::smallint[])
