-- The jobs that Idempotency-Keys stand for. Rows: owner, key, job, digest. Index: the primary key.
SELECT k.owner, k.key, k.job, k.digest
  FROM unnest(%(owner)b::text[], %(key)b::text[]) AS w (owner, key)
  JOIN idempotency_keys AS k ON k.owner = w.owner AND k.key = w.key
