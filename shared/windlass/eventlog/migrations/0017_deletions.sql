-- Jobs are deleted: their rows go, and what is left to be done of that stands here. Their events stay.
CREATE TABLE deleted_jobs (
    job    uuid PRIMARY KEY,
    shard  smallint NOT NULL,
    head   bigint NOT NULL,                        -- of the shard, when it was deleted
    hooked boolean NOT NULL,
    at     timestamptz NOT NULL,
    swept  boolean NOT NULL DEFAULT false          -- nothing of it is left
);
CREATE INDEX deleted_jobs_to_sweep ON deleted_jobs (shard) WHERE NOT swept;
CREATE INDEX jobs_below ON jobs (parent_job) WHERE parent_job IS NOT NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON deleted_jobs TO windlass_coordinator;
GRANT SELECT ON deleted_jobs TO windlass_gateway, windlass_scheduler, windlass_webhooks;
GRANT SELECT ON deliveries, webhook_cursors TO windlass_coordinator;
