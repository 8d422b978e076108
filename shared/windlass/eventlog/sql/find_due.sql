-- What waits for a word that was perhaps lost: jobs and tasks whose time to be driven again has come, oldest first.
-- Rows: job, task (null: the job itself). Indexes: tasks_to_drive, jobs_to_drive.
(SELECT job, id FROM tasks WHERE shard = ANY (%(shards)b::smallint[]) AND drive_at <= %(now)b ORDER BY drive_at LIMIT %(most)b)
 UNION ALL
(SELECT id, NULL FROM jobs WHERE shard = ANY (%(shards)b::smallint[]) AND drive_at <= %(now)b ORDER BY drive_at LIMIT %(most)b)
