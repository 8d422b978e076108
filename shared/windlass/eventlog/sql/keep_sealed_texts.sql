-- Sealed texts; a later one wins. Parameters: one array a column, none twice. Index: the primary key.
INSERT INTO sealed_texts (owner, field, job, sealed)
SELECT owner, field, job, sealed
  FROM unnest(%(owner)b::uuid[], %(field)b::text[], %(job)b::uuid[], %(sealed)b::text[]) AS r (owner, field, job, sealed)
    ON CONFLICT (owner, field) DO UPDATE SET sealed = EXCLUDED.sealed
