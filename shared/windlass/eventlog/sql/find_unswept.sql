-- Deleted jobs of some shards of which something is left, at most so many. Index: deleted_jobs_to_sweep.
SELECT job
  FROM deleted_jobs
 WHERE NOT swept AND shard = ANY (%(shards)b::smallint[])
 ORDER BY at
 LIMIT %(most)s
