-- Idempotency keys of new jobs. Refused by the primary key if one is taken, which throws the batch back.
INSERT INTO idempotency_keys (owner, key, job, digest)
SELECT owner, key, job, digest
  FROM unnest(%(owner)b::text[], %(key)b::text[], %(job)b::uuid[], %(digest)b::text[]) AS r (owner, key, job, digest)
