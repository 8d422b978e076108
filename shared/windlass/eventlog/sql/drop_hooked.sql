-- Forget tasks that cannot change any more. Index: the primary key.
DELETE FROM hooked
 WHERE id = ANY (%(ids)b::uuid[])
