-- Remove lanes in which nothing waits. Index: the primary key.
DELETE FROM lanes
 WHERE id = ANY (%(lanes)b::uuid[]) AND waiting = 0
