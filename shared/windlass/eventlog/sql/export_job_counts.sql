-- How many jobs are in which state, per shard, where there are any. Reads the whole table: a row a shard and state.
SELECT shard, state, jobs
  FROM job_counts
 WHERE jobs <> 0
