-- When some shards were last known to be followed to their heads. Index: the primary key.
SELECT shard, level_at
  FROM timer_cursors
 WHERE shard = ANY (%(shards)b::smallint[]) AND level_at IS NOT NULL
