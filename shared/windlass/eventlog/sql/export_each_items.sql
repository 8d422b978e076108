-- All parts of lists, by their jobs. A full scan.
SELECT task, first, next, job, is_map, items::text, redo::text
  FROM each_items
 ORDER BY job
