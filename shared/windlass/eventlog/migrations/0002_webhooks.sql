-- Webhooks: what is known of the jobs that have some, what is to be sent to whom, and how each call went.
-- Operational, outside a rebuild; the webhooks service alone writes these tables.

CREATE TABLE webhook_cursors (
    shard    smallint PRIMARY KEY,
    position bigint   NOT NULL
);
INSERT INTO webhook_cursors (shard, position) SELECT shard, 0 FROM shards;

-- Jobs with webhooks, and those of their tasks that can still change, folded from their events.
CREATE TABLE hooked (
    id         uuid PRIMARY KEY,                    -- of the job or task
    job        uuid NOT NULL,
    state      json NOT NULL,                       -- its row as it stood after the last event
    definition json                                 -- of a job, without its tasks
);
CREATE TABLE hooked_vars (
    job   uuid NOT NULL,
    name  text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (job, name)
);

CREATE TABLE deliveries (
    id         uuid        PRIMARY KEY,             -- the webhook-id of every call
    lane       uuid        NOT NULL,
    job        uuid        NOT NULL,
    version    integer     NOT NULL,                -- of the event in the job's stream
    hook       smallint    NOT NULL,                -- which webhook of the job, from 0
    event      text        NOT NULL,
    url        text        NOT NULL,
    headers    json        NOT NULL,
    body       bytea       NOT NULL,
    state      text        NOT NULL,                -- WAITING, then DELIVERED, REFUSED or EXHAUSTED
    attempts   smallint    NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at   timestamptz
);
CREATE INDEX deliveries_waiting ON deliveries (lane, version, hook) WHERE state = 'WAITING';
CREATE INDEX deliveries_oldest ON deliveries (created_at) WHERE state = 'WAITING';
CREATE INDEX deliveries_of_job ON deliveries (job);

CREATE TABLE delivery_attempts (
    delivery uuid        NOT NULL,
    number   smallint    NOT NULL,
    at       timestamptz NOT NULL,
    took_ms  integer     NOT NULL,
    status   smallint,                              -- of the answer; null: there was none
    error    text        NOT NULL,
    PRIMARY KEY (delivery, number)
);

-- One row a job and URL while something waits for it: whoever has the lane sends its first delivery, so they go in order.
CREATE TABLE lanes (
    id      uuid        PRIMARY KEY,
    host    text        NOT NULL,                   -- with port: who is to be called
    waiting integer     NOT NULL,                   -- deliveries
    due_at  timestamptz NOT NULL,
    owner   integer     NOT NULL                    -- the session that has it, 0: none
);
CREATE INDEX lanes_free ON lanes (host, due_at) WHERE owner = 0;
CREATE INDEX lanes_taken ON lanes (owner) WHERE owner <> 0;

GRANT SELECT, UPDATE ON webhook_cursors TO windlass_webhooks;
GRANT SELECT, INSERT, UPDATE, DELETE ON hooked, hooked_vars, deliveries, delivery_attempts, lanes TO windlass_webhooks;
