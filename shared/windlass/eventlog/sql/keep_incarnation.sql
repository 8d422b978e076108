-- The owner has driven everything for this incarnation of the broker's streams.
UPDATE shards
   SET incarnation = %(incarnation)s
 WHERE shard = %(shard)s
