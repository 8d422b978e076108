-- One message of the quarantine. Index: the primary key.
SELECT id, subject, payload, headers, reason, at
  FROM quarantine
 WHERE id = %(id)s::uuid
