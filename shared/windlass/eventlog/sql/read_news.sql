-- Which of some shards have more than a follower has seen. Rows: shard, cursor, head.
-- The head of a shard is read before its events: all up to it are committed, and nothing comes below it any more.
SELECT s.shard, c.position, s.head
  FROM shards AS s
  JOIN {cursors} AS c ON c.shard = s.shard
 WHERE s.shard = ANY (%(shards)s::smallint[]) AND s.head > c.position
 ORDER BY s.shard
