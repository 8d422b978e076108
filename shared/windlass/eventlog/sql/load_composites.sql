-- What is counted of the composites of some jobs that are at work, and of those asked for by id. Index: composites_at_work, the primary key.
SELECT task, size, opened, completions, failures, subjob, scope, again
  FROM composites
 WHERE job = ANY (%(jobs)b::uuid[]) AND NOT ended
 UNION ALL
SELECT task, size, opened, completions, failures, subjob, scope, again
  FROM composites
 WHERE task = ANY (%(tasks)b::uuid[]) AND (ended OR job <> ALL (%(jobs)b::uuid[]))
