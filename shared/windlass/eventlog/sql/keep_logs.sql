-- Parts of tasks' output; one that is there already is left alone. Index: the primary key.
INSERT INTO task_logs (task, attempt, number, job, contents, streams, at)
SELECT task, attempt, number, job, contents, streams, at
  FROM unnest(
      %(task)b::uuid[], %(attempt)b::integer[], %(number)b::integer[], %(job)b::uuid[], %(contents)b::text[],
      %(streams)b::json[], %(at)b::timestamptz[]
  ) AS r (task, attempt, number, job, contents, streams, at)
    ON CONFLICT DO NOTHING
