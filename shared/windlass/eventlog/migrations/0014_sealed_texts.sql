-- Texts of jobs that hold secrets, whole, sealed by their jobs' keys: what stands elsewhere of them shows no secret. Projected.
CREATE TABLE sealed_texts (
    owner  uuid NOT NULL,                              -- the job or task whose text it is
    field  text NOT NULL,                              -- definition, result, scope, "items <first>", "var <name>"
    job    uuid NOT NULL,
    sealed text NOT NULL,                              -- empty: what stands elsewhere is all there is by now
    PRIMARY KEY (owner, field)
);
CREATE INDEX sealed_texts_of_job ON sealed_texts (job);

-- What webhooks need of a job's secrets.
ALTER TABLE hooked ADD COLUMN sealed text NOT NULL DEFAULT '';

GRANT SELECT, INSERT, UPDATE, DELETE ON sealed_texts TO windlass_coordinator;
GRANT SELECT ON sealed_texts TO windlass_gateway, windlass_scheduler, windlass_webhooks;
