-- Some output of a deleted job. Rows: how many. Indexes: task_logs_of_job, the primary key.
WITH gone AS (
    DELETE FROM task_logs
     WHERE (task, attempt, number) IN (SELECT task, attempt, number FROM task_logs WHERE job = %(job)s::uuid LIMIT %(most)s)
    RETURNING 1
)
SELECT count(*) FROM gone
