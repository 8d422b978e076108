-- The next events of some shards that a follower wants, in order, of each shard at most %(most)s events and about %(size)s
-- characters of data, but one at least. Parameters: shards, the positions seen, their heads. Indexes: events_timed, events_hooked.
SELECT n.shard, e.position, e.stream, e.version, e.kind, e.type, e.data, e.metadata, e.at
  FROM unnest(%(shards)s::smallint[], %(seen)s::bigint[], %(heads)s::bigint[]) AS n (shard, seen, head)
 CROSS JOIN LATERAL (
      SELECT f.*, sum(length(f.data)) OVER (ORDER BY f.position) - length(f.data) AS before
        FROM (
             SELECT position, stream, version, kind, type, data::text, metadata::text, at
               FROM events
              WHERE shard = n.shard AND {wanted} AND position > n.seen AND position <= n.head
              ORDER BY position
              LIMIT %(most)s
             ) AS f
      ) AS e
 WHERE e.before < %(size)s
 ORDER BY n.shard, e.position
