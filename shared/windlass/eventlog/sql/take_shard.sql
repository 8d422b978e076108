-- What the new owner of a shard must know. Rows: head, incarnation.
UPDATE shards
   SET owner = %(owner)s
 WHERE shard = %(shard)s
RETURNING head, incarnation
