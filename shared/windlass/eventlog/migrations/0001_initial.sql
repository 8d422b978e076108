-- The log, the projections written with it, and the operational tables. Runs in the schema of the installation
-- (search_path), as its owner. One service writes each table; the grants at the end say which.

CREATE TABLE installation (
    one         boolean     PRIMARY KEY DEFAULT true CHECK (one),
    format      integer     NOT NULL,               -- of this schema; a release that knows only older ones steps down
    shards      smallint    NOT NULL,               -- fixed for ever: a power of two up to 256
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- One row a shard. `head` is the fence of the log: a commit moves it from the expected position or fails.
CREATE TABLE shards (
    shard       smallint PRIMARY KEY,
    head        bigint   NOT NULL DEFAULT 0,
    incarnation text     NOT NULL DEFAULT '',       -- of the broker's streams, as its owner last saw them
    owner       text     NOT NULL DEFAULT ''        -- for people; ownership itself is a session lock
);

-- The log. Ids of jobs are in order of time, so a stream lives in the partition of its birth.
CREATE TABLE events (
    kind     text        NOT NULL,
    stream   uuid        NOT NULL,
    version  integer     NOT NULL,
    shard    smallint    NOT NULL,
    position bigint      NOT NULL,
    type     text        NOT NULL,
    data     json        NOT NULL,
    metadata json        NOT NULL,
    at       timestamptz NOT NULL,
    timed    boolean     NOT NULL,
    hooked   boolean     NOT NULL,
    CONSTRAINT one_history UNIQUE (kind, stream, version)
) PARTITION BY LIST (kind);

CREATE TABLE events_job PARTITION OF events FOR VALUES IN ('job') PARTITION BY RANGE (stream);
CREATE TABLE events_job_rest PARTITION OF events_job DEFAULT;
CREATE TABLE events_rest PARTITION OF events DEFAULT;

CREATE INDEX events_in_order ON events (shard, position);
CREATE INDEX events_timed ON events (shard, position) WHERE timed;
CREATE INDEX events_hooked ON events (shard, position) WHERE hooked;

-- Projections of the job streams: rebuilt from the log, byte for byte, but for the columns that say "operational".
CREATE TABLE jobs (
    id           uuid        PRIMARY KEY,
    shard        smallint    NOT NULL,
    version      integer     NOT NULL,
    run          integer     NOT NULL,
    state        text        NOT NULL,
    name         text        NOT NULL,
    definition   json        NOT NULL,
    created_by   text        NOT NULL,
    position     integer     NOT NULL,
    task_count   integer     NOT NULL,
    progress     float8      NOT NULL,
    created_at   timestamptz NOT NULL,
    started_at   timestamptz,
    completed_at timestamptz,
    failed_at    timestamptz,
    result       text        NOT NULL,
    error        text        NOT NULL,
    drive_at     timestamptz,                       -- operational
    drives       smallint    NOT NULL DEFAULT 0     -- operational
);
CREATE INDEX jobs_to_drive ON jobs (shard, drive_at) WHERE drive_at IS NOT NULL;

CREATE TABLE tasks (
    id           uuid        PRIMARY KEY,
    job          uuid        NOT NULL,
    shard        smallint    NOT NULL,
    run          integer     NOT NULL,
    key          text        NOT NULL,
    position     integer     NOT NULL,
    attempt      integer     NOT NULL,
    retries      integer     NOT NULL,
    redelivered  integer     NOT NULL,
    state        text        NOT NULL,
    queue        text        NOT NULL,
    worker       text        NOT NULL,
    definition   json        NOT NULL,
    progress     float8      NOT NULL,
    created_at   timestamptz NOT NULL,
    scheduled_at timestamptz,
    started_at   timestamptz,
    completed_at timestamptz,
    failed_at    timestamptz,
    result       text        NOT NULL,
    error        text        NOT NULL,
    drive_at     timestamptz,                       -- operational: when its order is sent again
    drives       smallint    NOT NULL DEFAULT 0,    -- operational: how often it was
    stopping     text        NOT NULL DEFAULT ''    -- operational: the worker that has not yet confirmed a stop
);
CREATE INDEX tasks_of_job ON tasks (job, position);
CREATE INDEX tasks_to_drive ON tasks (shard, drive_at) WHERE drive_at IS NOT NULL;
CREATE INDEX tasks_running ON tasks (worker) WHERE state = 'RUNNING';
CREATE INDEX tasks_stopping ON tasks (stopping) WHERE stopping <> '';

CREATE TABLE job_vars (
    job   uuid NOT NULL,
    name  text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (job, name)
);

CREATE TABLE job_counts (
    shard smallint NOT NULL,
    state text     NOT NULL,
    jobs  bigint   NOT NULL,
    PRIMARY KEY (shard, state)
);

CREATE TABLE idempotency_keys (
    owner  text NOT NULL,
    key    text NOT NULL,
    job    uuid NOT NULL,
    digest text NOT NULL,
    PRIMARY KEY (owner, key)
);

-- Operational tables: outside the log and outside a rebuild.
CREATE TABLE nodes (
    id                text        PRIMARY KEY,
    name              text        NOT NULL,
    service           text        NOT NULL,
    hostname          text        NOT NULL,
    version           text        NOT NULL,
    port              integer     NOT NULL,
    status            text        NOT NULL,
    cpu_percent       float8      NOT NULL,
    queues            json        NOT NULL,
    task_count        integer     NOT NULL,
    started_at        timestamptz NOT NULL,
    last_heartbeat_at timestamptz NOT NULL
);
CREATE INDEX nodes_recent ON nodes (last_heartbeat_at);

CREATE TABLE task_logs (
    task     uuid        NOT NULL,
    attempt  integer     NOT NULL,
    number   integer     NOT NULL,
    job      uuid        NOT NULL,
    contents text        NOT NULL,
    streams  json        NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (task, attempt, number)
);
CREATE INDEX task_logs_of_job ON task_logs (job);

CREATE TABLE quarantine (
    id      uuid        PRIMARY KEY,
    subject text        NOT NULL,
    payload bytea       NOT NULL,
    headers json        NOT NULL,
    reason  text        NOT NULL,
    at      timestamptz NOT NULL
);

-- Moves the heads of a batch, each from its expected position, or refuses the whole commit.
CREATE FUNCTION move_heads(moved smallint[], expected bigint[], next bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    done integer;
BEGIN
    UPDATE shards AS s
       SET head = m.next
      FROM unnest(moved, expected, next) AS m (shard, expected, next)
     WHERE s.shard = m.shard AND s.head = m.expected;
    GET DIAGNOSTICS done = ROW_COUNT;
    IF done <> cardinality(moved) THEN
        RAISE EXCEPTION 'the head of a shard has moved' USING ERRCODE = 'WL001';
    END IF;
END
$$;

-- Makes the monthly partitions of job events from this month to `months` ahead. The coordinator may call it, though it owns no table.
CREATE FUNCTION ensure_partitions(today date, months integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    first date;
    part  text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('windlass partitions'));
    FOR i IN 0..months LOOP
        first := date_trunc('month', today)::date + make_interval(months => i);
        part := 'events_job_' || to_char(first, 'YYYY_MM');
        IF to_regclass(part) IS NULL THEN
            BEGIN
                EXECUTE format(
                    'CREATE TABLE %I PARTITION OF events_job FOR VALUES FROM (%L) TO (%L)',
                    part,
                    rpad(lpad(to_hex((extract(epoch FROM first::timestamp AT TIME ZONE 'UTC') * 1000)::bigint), 12, '0'), 32, '0')::uuid,
                    rpad(lpad(to_hex((extract(epoch FROM (first + interval '1 month')::timestamp AT TIME ZONE 'UTC') * 1000)::bigint), 12, '0'), 32, '0')::uuid
                );
            EXCEPTION WHEN check_violation THEN
                -- A clock that was wrong by months has put a job of that month where the rest is: it stays there, and the month too.
                RAISE WARNING 'events of % stay in events_job_rest', part;
            END;
        END IF;
    END LOOP;
END
$$;

-- Roles: one a service. Nobody may update or delete an event.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['windlass_gateway', 'windlass_coordinator', 'windlass_scheduler', 'windlass_webhooks'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
                EXECUTE format('CREATE ROLE %I LOGIN', role);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- another installation on this server made it in the same moment
        END;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), role);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I', current_schema(), role);
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ensure_partitions(date, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partitions(date, integer) TO windlass_coordinator;
GRANT INSERT ON events TO windlass_coordinator;
GRANT UPDATE ON shards TO windlass_coordinator;
GRANT INSERT, UPDATE, DELETE ON jobs, tasks, job_vars, job_counts, idempotency_keys, nodes, task_logs, quarantine TO windlass_coordinator;
