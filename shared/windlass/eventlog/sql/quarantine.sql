-- A message that can never succeed, with the reason; the same message twice is kept once.
INSERT INTO quarantine (id, subject, payload, headers, reason, at)
VALUES (%(id)s, %(subject)s, %(payload)s, %(headers)s::json, %(reason)s, %(at)s)
    ON CONFLICT DO NOTHING
