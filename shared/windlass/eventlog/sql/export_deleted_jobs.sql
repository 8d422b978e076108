-- All deleted jobs. Index: the primary key.
SELECT job, shard, head, hooked, at, swept
  FROM deleted_jobs
 ORDER BY job
