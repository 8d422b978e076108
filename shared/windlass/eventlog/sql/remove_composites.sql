-- A row that the log does not bear out goes. Index: the primary key.
DELETE FROM composites
 WHERE task = %(task)s
