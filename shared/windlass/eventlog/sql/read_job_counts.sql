-- How many jobs there are in each state. A row a state; the table has one row a shard and state.
SELECT state, sum(jobs)::bigint
  FROM job_counts
 GROUP BY state
