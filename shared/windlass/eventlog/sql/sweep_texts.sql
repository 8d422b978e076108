-- Some sealed texts of a deleted job. Rows: how many. Index: sealed_texts_of_job.
WITH gone AS (
    DELETE FROM sealed_texts
     WHERE (owner, field) IN (SELECT owner, field FROM sealed_texts WHERE job = %(job)s::uuid LIMIT %(most)s)
    RETURNING 1
)
SELECT count(*) FROM gone
