-- One task row, with what is counted of it if it is a composite, and its moment if it waits for one; none of a deleted job. Indexes: the primary keys.
SELECT t.id, t.job, t.position, t.state, t.definition, t.queue, t.worker, t.attempt, t.retries, t.redelivered, t.progress,
       t.created_at, t.scheduled_at, t.started_at, t.completed_at, t.failed_at, t.result, t.error, t.parent,
       CASE WHEN t.state = 'PENDING' THEN (SELECT due_at FROM timers WHERE id = t.id) END,
       c.size, c.opened, c.completions, c.subjob
  FROM tasks AS t
  JOIN jobs AS j ON j.id = t.job
  LEFT JOIN composites AS c ON c.task = t.id
 WHERE t.id = %(task)s::uuid
