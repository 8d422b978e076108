-- A row that the log does not bear out goes. Index: the primary key.
DELETE FROM each_items
 WHERE task = %(task)s AND first = %(first)s
