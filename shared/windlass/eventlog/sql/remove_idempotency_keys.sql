-- A row that the log does not bear out goes. Index: the primary key.
DELETE FROM idempotency_keys
 WHERE owner = %(owner)s AND key = %(key)s
