-- Append a batch of events; positions and versions are given by the only writer of the shard.
-- Parameters: one array a column. Refused by one_history if a version is taken.
INSERT INTO events (kind, stream, version, shard, position, type, data, metadata, at, timed, hooked)
SELECT kind, stream, version, shard, position, type, data, metadata, at, timed, hooked
  FROM unnest(
      %(kind)b::text[], %(stream)b::uuid[], %(version)b::integer[], %(shard)b::smallint[], %(position)b::bigint[], %(type)b::text[],
      %(data)b::json[], %(metadata)b::json[], %(at)b::timestamptz[], %(timed)b::boolean[], %(hooked)b::boolean[]
  ) AS e (kind, stream, version, shard, position, type, data, metadata, at, timed, hooked)
