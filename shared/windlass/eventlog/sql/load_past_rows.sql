-- Of the steps below some composites, and of the own steps of some jobs: what did not end well, by its last row, or the one
-- whose place that was to take, if its time had not come. `jobs` are the jobs
-- of all these. Rows: the composite or the job, the key, the row, whether that is a composite. Index: tasks_of_job.
SELECT coalesce(t.parent, t.job), t.key, CASE WHEN c.size = 0 THEN coalesce(c.again, t.id) ELSE t.id END, c.task IS NOT NULL
  FROM (
      SELECT DISTINCT ON (job, parent, key) id, job, parent, key, state
        FROM tasks
       WHERE job = ANY (%(jobs)b::uuid[]) AND (parent = ANY (%(tasks)b::uuid[]) OR parent IS NULL AND job = ANY (%(whole)b::uuid[]))
       ORDER BY job, parent, key, run DESC, attempt DESC
  ) AS t
  LEFT JOIN composites AS c ON c.task = t.id
 WHERE t.state NOT IN ('COMPLETED', 'SKIPPED')
