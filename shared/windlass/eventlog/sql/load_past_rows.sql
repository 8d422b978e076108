-- Of the steps below some composites, and of the own steps of some jobs: what did not end well, by its last row. `jobs` are the jobs
-- of all these. Rows: the composite or the job, the key, the row, whether that is a composite. Index: tasks_of_job.
SELECT coalesce(t.parent, t.job), t.key, t.id, EXISTS (SELECT FROM composites AS c WHERE c.task = t.id)
  FROM (
      SELECT DISTINCT ON (job, parent, key) id, job, parent, key, state
        FROM tasks
       WHERE job = ANY (%(jobs)b::uuid[]) AND (parent = ANY (%(tasks)b::uuid[]) OR parent IS NULL AND job = ANY (%(whole)b::uuid[]))
       ORDER BY job, parent, key, run DESC, attempt DESC
  ) AS t
 WHERE t.state NOT IN ('COMPLETED', 'SKIPPED')
