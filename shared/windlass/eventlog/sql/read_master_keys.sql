-- The ids of the master keys by which keys of jobs are wrapped, each found by one look into the index job_keys_by_master.
WITH RECURSIVE used AS (
      (SELECT master FROM job_keys ORDER BY master LIMIT 1)
       UNION ALL
      SELECT (SELECT master FROM job_keys WHERE master > used.master ORDER BY master LIMIT 1)
        FROM used
       WHERE used.master IS NOT NULL
      )
SELECT master
  FROM used
 WHERE master IS NOT NULL
