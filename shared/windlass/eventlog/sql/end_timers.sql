-- Timers whose row does not wait any more. Index: the primary key.
DELETE FROM timers
 WHERE id = ANY (%(ids)s::uuid[])
