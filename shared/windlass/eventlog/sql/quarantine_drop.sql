-- Forgets one message of the quarantine; its id comes back if it was there. Index: the primary key.
DELETE FROM quarantine
 WHERE id = %(id)s::uuid
RETURNING id
