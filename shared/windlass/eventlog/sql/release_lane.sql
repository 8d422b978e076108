-- Let a lane go of which nothing was sent, unless it is another's by now. Index: the primary key.
UPDATE lanes
   SET owner = 0
 WHERE id = %(lane)b AND owner = %(owner)b
