-- All sealed texts, by their jobs. Index: sealed_texts_of_job.
SELECT owner, field, job, sealed
  FROM sealed_texts
 ORDER BY job
