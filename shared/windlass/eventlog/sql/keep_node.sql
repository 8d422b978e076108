-- A node's last heartbeat; one older than what is stored changes nothing. Index: the primary key.
INSERT INTO nodes (
    id, name, service, hostname, version, port, status, cpu_percent, queues, task_count, started_at, last_heartbeat_at
)
VALUES (
    %(id)s, %(name)s, %(service)s, %(hostname)s, %(version)s, %(port)s, %(status)s, %(cpu_percent)s, %(queues)s::json,
    %(task_count)s, %(started_at)s, %(at)s
)
    ON CONFLICT (id) DO UPDATE
   SET status = EXCLUDED.status, cpu_percent = EXCLUDED.cpu_percent, queues = EXCLUDED.queues,
       task_count = EXCLUDED.task_count, last_heartbeat_at = EXCLUDED.last_heartbeat_at
 WHERE nodes.last_heartbeat_at <= EXCLUDED.last_heartbeat_at
