-- All parts of some lists. Rows: task, first, map or not, elements, which. Index: the primary key.
SELECT task, first, is_map, items, redo::text
  FROM each_items
 WHERE task = ANY (%(tasks)b::uuid[])
 ORDER BY task, first
