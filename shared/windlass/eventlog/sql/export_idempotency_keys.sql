-- All idempotency keys, by their jobs. Sorts the table.
SELECT job, owner, key, digest
  FROM idempotency_keys
 ORDER BY job
