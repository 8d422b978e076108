-- Deliveries of jobs that are deleted, and how they went; those that wait are sent yet. Indexes: deliveries_of_job, the primary keys.
WITH attempts AS (
    DELETE FROM delivery_attempts AS a
     USING deliveries AS d
     WHERE d.job = ANY (%(jobs)b::uuid[]) AND d.state <> 'WAITING' AND a.delivery = d.id
)
DELETE FROM deliveries
 WHERE job = ANY (%(jobs)b::uuid[]) AND state <> 'WAITING'
