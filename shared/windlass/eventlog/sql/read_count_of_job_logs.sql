-- How many parts the output of a job's tasks has. Index: task_logs_of_job.
SELECT count(*)
  FROM task_logs
 WHERE job = %(job)s::uuid
