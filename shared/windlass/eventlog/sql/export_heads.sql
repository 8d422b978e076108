-- Each shard's head beside what its log holds. Rows: shard, head, events, last position. Index: events_in_order.
SELECT s.shard, s.head, count(e.position), coalesce(max(e.position), 0)
  FROM shards AS s
  LEFT JOIN events AS e ON e.shard = s.shard
 GROUP BY s.shard, s.head
 ORDER BY s.shard
