-- The format of the database, and the one whose types of events may be written. One row.
SELECT format, finished
  FROM installation
