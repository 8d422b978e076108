-- A page of the output of a job's tasks, last task first, newest part first. What is sorted are keys; the texts of the page
-- alone are read. Index: task_logs_of_job, then primary keys.
  WITH page AS (
      SELECT l.task, l.attempt, l.number,
             row_number() OVER (ORDER BY t.position DESC, t.created_at DESC, l.task DESC, l.attempt DESC, l.number DESC) AS place
        FROM task_logs AS l
        JOIN tasks AS t ON t.id = l.task
       WHERE l.job = %(job)s::uuid
       ORDER BY place
       LIMIT %(limit)s OFFSET %(offset)s
  )
SELECT p.task, p.attempt, p.number, l.contents, l.at
  FROM page AS p
  JOIN task_logs AS l ON l.task = p.task AND l.attempt = p.attempt AND l.number = p.number
 ORDER BY p.place
