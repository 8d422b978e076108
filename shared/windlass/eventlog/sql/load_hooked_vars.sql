-- The variables of some jobs whose webhooks have templates. Index: the primary key.
SELECT job, name, value, sealed
  FROM hooked_vars
 WHERE job = ANY (%(jobs)b::uuid[])
