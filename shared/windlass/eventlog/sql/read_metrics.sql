-- What runs now, and where. Indexes: tasks_running, nodes_recent.
SELECT (SELECT coalesce(sum(jobs), 0)::bigint FROM job_counts WHERE state = 'RUNNING'),
       (SELECT count(*) FROM tasks WHERE state = 'RUNNING'),
       (SELECT count(*) FROM nodes WHERE last_heartbeat_at > %(since)s AND service IN ('worker', 'coordinator')),
       (SELECT coalesce(avg(cpu_percent), 0) FROM nodes WHERE last_heartbeat_at > %(since)s AND service IN ('worker', 'coordinator'))
