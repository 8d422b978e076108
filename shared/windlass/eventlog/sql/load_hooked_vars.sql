-- The variables of some jobs whose webhooks have templates. Index: the primary key.
SELECT job, name, value
  FROM hooked_vars
 WHERE job = ANY (%(jobs)b::uuid[])
