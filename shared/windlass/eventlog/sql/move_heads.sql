-- Move the heads of a batch from their expected positions, or refuse the commit (WL001).
-- Parameters: shards, expected, next. Locks the rows of those shards.
SELECT move_heads(%(shards)b::smallint[], %(expected)b::bigint[], %(next)b::bigint[])
