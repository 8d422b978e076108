-- The events of a job before a version, in order. Rows: type, data. Index: that of one_history.
SELECT type, data::text
  FROM events
 WHERE kind = 'job' AND stream = %(job)s AND version < %(version)s
 ORDER BY version
