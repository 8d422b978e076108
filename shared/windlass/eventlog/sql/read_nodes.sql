-- The workers and coordinators heard of since a moment, by name. Index: nodes_recent.
SELECT id, name, service, hostname, version, port, status, cpu_percent, task_count, started_at, last_heartbeat_at
  FROM nodes
 WHERE last_heartbeat_at > %(since)s
   AND service IN ('worker', 'coordinator')
 ORDER BY name, id
