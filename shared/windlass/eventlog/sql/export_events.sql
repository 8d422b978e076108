-- The histories of all jobs, one after the other, each in order. Indexes: one_history of each partition.
SELECT stream, version, type, data::text
  FROM events
 WHERE kind = 'job'
 ORDER BY stream, version
