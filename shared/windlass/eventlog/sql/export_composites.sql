-- All composites, by their jobs. A full scan.
SELECT task, job, size, opened, completions, failures, ended, subjob, scope::text, again
  FROM composites
 ORDER BY job
