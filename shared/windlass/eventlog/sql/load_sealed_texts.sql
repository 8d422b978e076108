-- The sealed texts of some jobs and tasks, but for parts of lists. Index: the primary key.
SELECT owner, field, sealed
  FROM sealed_texts
 WHERE owner = ANY (%(owners)b::uuid[]) AND left(field, 6) <> 'items '
