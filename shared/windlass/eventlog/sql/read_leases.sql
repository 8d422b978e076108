-- Who follows: the locks of a class that are held. Rows: key (a shard, or the one that every instance holds), the session's process.
SELECT objid::integer, pid
  FROM pg_locks
 WHERE locktype = 'advisory' AND classid = %(class)s::oid AND objsubid = 2 AND granted
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
