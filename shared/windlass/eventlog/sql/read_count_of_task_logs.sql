-- How many parts a task's output has. Index: the primary key.
SELECT count(*)
  FROM task_logs
 WHERE task = %(task)s::uuid
