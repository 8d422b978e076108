-- Some sealed parts of lists, by task and field. Index: the primary key.
SELECT s.owner, s.field, s.sealed
  FROM unnest(%(owner)b::uuid[], %(field)b::text[]) AS w (owner, field)
  JOIN sealed_texts AS s ON s.owner = w.owner AND s.field = w.field
