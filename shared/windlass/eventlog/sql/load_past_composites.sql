-- What was counted of some composites that ended. Index: the primary key.
SELECT task, size, opened, subjob, again
  FROM composites
 WHERE task = ANY (%(tasks)b::uuid[])
