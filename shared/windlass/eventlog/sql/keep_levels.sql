-- Write down when shards were followed to their heads. Parameters: one array a column. Index: the primary key.
UPDATE timer_cursors AS c
   SET level_at = greatest(c.level_at, l.level_at)
  FROM unnest(%(shard)b::smallint[], %(level_at)b::timestamptz[]) AS l (shard, level_at)
 WHERE c.shard = l.shard
