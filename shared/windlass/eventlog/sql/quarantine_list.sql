-- The newest messages of the quarantine, newest first; ids are in the order of time. Index: the primary key, backwards.
SELECT id, subject, octet_length(payload) AS bytes, reason, at
  FROM quarantine
 ORDER BY id DESC
 LIMIT %(limit)s
