-- A row that the log does not bear out goes. Index: the primary key.
DELETE FROM sealed_texts
 WHERE owner = %(owner)s AND field = %(field)s
