-- Parts of lists. Parameters: one array a column. Index: the primary key.
INSERT INTO each_items (task, first, next, job, is_map, items, redo)
SELECT task, first, next, job, is_map, items, redo
  FROM unnest(%(task)b::uuid[], %(first)b::integer[], %(next)b::integer[], %(job)b::uuid[], %(is_map)b::boolean[], %(items)b::json[],
      %(redo)b::json[])
    AS r (task, first, next, job, is_map, items, redo)
