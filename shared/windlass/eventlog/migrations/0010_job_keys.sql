-- Jobs with secrets: the key of each, by which its texts are sealed in the log and wherever they came to. Operational, outside a
-- rebuild, and no part of the log on purpose: without its row nothing that it sealed can be read any more.
CREATE TABLE job_keys (
    job      uuid PRIMARY KEY,
    master   text NOT NULL,                            -- the id of the master key by which it is wrapped
    wrapped  text NOT NULL,
    webhooks text NOT NULL                             -- the same, wrapped for the webhooks service; empty if it has no use for it
);
CREATE INDEX job_keys_by_master ON job_keys (master);

-- What of a call's address and headers holds secrets, sealed by the job's key, and the same of what headers are made from.
ALTER TABLE deliveries ADD COLUMN sealed text NOT NULL DEFAULT '';
ALTER TABLE hooked_vars ADD COLUMN sealed text NOT NULL DEFAULT '';

GRANT SELECT, INSERT, UPDATE, DELETE ON job_keys TO windlass_coordinator;
GRANT SELECT ON job_keys TO windlass_webhooks;
