-- Who owns which shard: the node that took it last, as long as a session holds its lock. Rows: shard, head, node and its name
-- (null: nobody). One row a shard.
SELECT s.shard, s.head, CASE WHEN l.pid IS NOT NULL THEN s.owner END, CASE WHEN l.pid IS NOT NULL THEN coalesce(n.name, s.owner) END
  FROM shards AS s
  LEFT JOIN pg_locks AS l
    ON l.locktype = 'advisory' AND l.classid = shard_locks()::oid AND l.objid = s.shard::oid AND l.objsubid = 2 AND l.granted
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  LEFT JOIN nodes AS n ON n.id = s.owner
 ORDER BY s.shard
