-- That jobs are deleted. Parameters: one array a column.
INSERT INTO deleted_jobs (job, shard, head, hooked, at)
SELECT job, shard, head, hooked, at
  FROM unnest(%(job)b::uuid[], %(shard)b::smallint[], %(head)b::bigint[], %(hooked)b::boolean[], %(at)b::timestamptz[])
    AS d (job, shard, head, hooked, at)
