-- Who runs something in these shards. Rows: worker, job, task, run, attempt. Index: tasks_running.
SELECT worker, job, id, run, attempt
  FROM tasks
 WHERE state = 'RUNNING' AND shard = ANY (%(shards)b::smallint[])
