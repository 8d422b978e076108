-- The key of a deleted job, once no webhook needs it any more. Indexes: the primary keys, deliveries_of_job.
DELETE FROM job_keys AS k
 USING deleted_jobs AS d
 WHERE k.job = %(job)s::uuid
   AND d.job = k.job
   AND (NOT d.hooked
        OR d.head <= (SELECT position FROM webhook_cursors WHERE shard = d.shard)
           AND NOT EXISTS (SELECT FROM deliveries WHERE job = d.job AND sealed <> '' AND state = 'WAITING'))
