-- Move a follower's cursors, each from where it is expected. Parameters: shards, the positions seen, those reached.
UPDATE {cursors} AS c
   SET position = m.reached
  FROM unnest(%(shards)s::smallint[], %(seen)s::bigint[], %(reached)s::bigint[]) AS m (shard, seen, reached)
 WHERE c.shard = m.shard AND c.position = m.seen
