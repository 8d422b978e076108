-- A page of a task's output, newest part first. Index: the primary key.
SELECT task, attempt, number, contents, at
  FROM task_logs
 WHERE task = %(task)s::uuid
 ORDER BY attempt DESC, number DESC
 LIMIT %(limit)s OFFSET %(offset)s
