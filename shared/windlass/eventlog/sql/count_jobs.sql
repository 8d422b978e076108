-- How many jobs are in which state, per shard: the batch's differences. Index: the primary key.
INSERT INTO job_counts (shard, state, jobs)
SELECT shard, state, jobs
  FROM unnest(%(shard)b::smallint[], %(state)b::text[], %(jobs)b::bigint[]) AS r (shard, state, jobs)
    ON CONFLICT (shard, state) DO UPDATE SET jobs = job_counts.jobs + EXCLUDED.jobs
