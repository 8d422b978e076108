-- Of each of some lists, the part with an element and the one after it. Rows: task, first, map or not, elements, which. Index: the primary key.
SELECT e.task, e.first, e.is_map, e.items, e.redo::text
  FROM unnest(%(task)b::uuid[], %(index)b::integer[]) AS w (task, index)
 CROSS JOIN LATERAL (
     SELECT task, first, is_map, items, redo
       FROM each_items AS i
      WHERE i.task = w.task AND i.first > w.index - 500 AND i.next > w.index
      ORDER BY i.first
      LIMIT 2
 ) AS e
