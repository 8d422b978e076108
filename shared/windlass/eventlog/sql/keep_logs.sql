-- Parts of tasks' output; one that is there already is left alone, one of a deleted job left out. Index: the primary key.
INSERT INTO task_logs (task, attempt, number, job, contents, streams, at)
SELECT task, attempt, number, job, contents, streams, at
  FROM unnest(
      %(task)b::uuid[], %(attempt)b::integer[], %(number)b::integer[], %(job)b::uuid[], %(contents)b::text[],
      %(streams)b::json[], %(at)b::timestamptz[]
  ) AS r (task, attempt, number, job, contents, streams, at)
 WHERE NOT EXISTS (SELECT FROM deleted_jobs AS d WHERE d.job = r.job)
    ON CONFLICT DO NOTHING
