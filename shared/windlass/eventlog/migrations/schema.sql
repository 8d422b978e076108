-- What the migrations come to, for reading: written by `just schema` from a migrated database, and compared by a test.
-- Why a table or column is as it is stands in the migrations.

CREATE TABLE composites (
    task uuid NOT NULL,
    job uuid NOT NULL,
    size integer NOT NULL,
    opened integer NOT NULL,
    completions integer NOT NULL,
    failures integer NOT NULL,
    ended boolean NOT NULL,
    subjob uuid,
    scope json NOT NULL,
    again uuid
);
ALTER TABLE composites ADD CONSTRAINT composites_pkey PRIMARY KEY (task);
CREATE INDEX composites_at_work ON composites USING btree (job) WHERE (NOT ended);

CREATE TABLE deleted_jobs (
    job uuid NOT NULL,
    shard smallint NOT NULL,
    head bigint NOT NULL,
    hooked boolean NOT NULL,
    at timestamp with time zone NOT NULL,
    swept boolean NOT NULL DEFAULT false
);
ALTER TABLE deleted_jobs ADD CONSTRAINT deleted_jobs_pkey PRIMARY KEY (job);
CREATE INDEX deleted_jobs_to_sweep ON deleted_jobs USING btree (shard) WHERE (NOT swept);

CREATE TABLE deliveries (
    id uuid NOT NULL,
    lane uuid NOT NULL,
    job uuid NOT NULL,
    version integer NOT NULL,
    hook smallint NOT NULL,
    event text NOT NULL,
    url text NOT NULL,
    headers json NOT NULL,
    body bytea NOT NULL,
    state text NOT NULL,
    attempts smallint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    sealed text NOT NULL DEFAULT ''::text
);
ALTER TABLE deliveries ADD CONSTRAINT deliveries_pkey PRIMARY KEY (id);
CREATE INDEX deliveries_ended ON deliveries USING btree (ended_at) WHERE (ended_at IS NOT NULL);
CREATE INDEX deliveries_of_job ON deliveries USING btree (job);
CREATE INDEX deliveries_oldest ON deliveries USING btree (created_at) WHERE (state = 'WAITING'::text);
CREATE INDEX deliveries_waiting ON deliveries USING btree (lane, version, hook) WHERE (state = 'WAITING'::text);

CREATE TABLE delivery_attempts (
    delivery uuid NOT NULL,
    number smallint NOT NULL,
    at timestamp with time zone NOT NULL,
    took_ms integer NOT NULL,
    status smallint,
    error text NOT NULL
);
ALTER TABLE delivery_attempts ADD CONSTRAINT delivery_attempts_pkey PRIMARY KEY (delivery, number);

CREATE TABLE each_items (
    task uuid NOT NULL,
    first integer NOT NULL,
    next integer NOT NULL,
    job uuid NOT NULL,
    is_map boolean NOT NULL,
    items json NOT NULL,
    redo json
);
ALTER TABLE each_items ADD CONSTRAINT each_items_pkey PRIMARY KEY (task, first);
CREATE INDEX each_items_of_job ON each_items USING btree (job);

CREATE TABLE events (
    kind text NOT NULL,
    stream uuid NOT NULL,
    version integer NOT NULL,
    shard smallint NOT NULL,
    position bigint NOT NULL,
    type text NOT NULL,
    data json NOT NULL,
    metadata json NOT NULL,
    at timestamp with time zone NOT NULL,
    timed boolean NOT NULL,
    hooked boolean NOT NULL
) PARTITION BY LIST (kind);
ALTER TABLE events ADD CONSTRAINT one_history UNIQUE (kind, stream, version);
CREATE INDEX events_hooked ON ONLY events USING btree (shard, "position") WHERE hooked;
CREATE INDEX events_in_order ON ONLY events USING btree (shard, "position");
CREATE INDEX events_timed ON ONLY events USING btree (shard, "position") WHERE timed;

CREATE TABLE hooked (
    id uuid NOT NULL,
    job uuid NOT NULL,
    state json NOT NULL,
    definition json,
    ended_at timestamp with time zone,
    sealed text NOT NULL DEFAULT ''::text
);
ALTER TABLE hooked ADD CONSTRAINT hooked_pkey PRIMARY KEY (id);
CREATE INDEX hooked_ended ON hooked USING btree (ended_at) WHERE (ended_at IS NOT NULL);

CREATE TABLE hooked_vars (
    job uuid NOT NULL,
    name text NOT NULL,
    value text NOT NULL,
    sealed text NOT NULL DEFAULT ''::text
);
ALTER TABLE hooked_vars ADD CONSTRAINT hooked_vars_pkey PRIMARY KEY (job, name);

CREATE TABLE idempotency_keys (
    owner text NOT NULL,
    key text NOT NULL,
    job uuid NOT NULL,
    digest text NOT NULL
);
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (owner, key);

CREATE TABLE installation (
    one boolean NOT NULL DEFAULT true,
    format integer NOT NULL,
    shards smallint NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    finished integer NOT NULL DEFAULT 1
);
ALTER TABLE installation ADD CONSTRAINT installation_one_check CHECK (one);
ALTER TABLE installation ADD CONSTRAINT installation_pkey PRIMARY KEY (one);

CREATE TABLE job_counts (
    shard smallint NOT NULL,
    state text NOT NULL,
    jobs bigint NOT NULL
);
ALTER TABLE job_counts ADD CONSTRAINT job_counts_pkey PRIMARY KEY (shard, state);

CREATE TABLE job_keys (
    job uuid NOT NULL,
    master text NOT NULL,
    wrapped text NOT NULL,
    webhooks text NOT NULL
);
ALTER TABLE job_keys ADD CONSTRAINT job_keys_pkey PRIMARY KEY (job);
CREATE INDEX job_keys_by_master ON job_keys USING btree (master);

CREATE TABLE job_vars (
    job uuid NOT NULL,
    name text NOT NULL,
    value text NOT NULL
);
ALTER TABLE job_vars ADD CONSTRAINT job_vars_pkey PRIMARY KEY (job, name);

CREATE TABLE jobs (
    id uuid NOT NULL,
    shard smallint NOT NULL,
    version integer NOT NULL,
    run integer NOT NULL,
    state text NOT NULL,
    name text NOT NULL,
    definition json NOT NULL,
    created_by text NOT NULL,
    position integer NOT NULL,
    task_count integer NOT NULL,
    progress double precision NOT NULL,
    created_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    failed_at timestamp with time zone,
    result text NOT NULL,
    error text NOT NULL,
    drive_at timestamp with time zone,
    drives smallint NOT NULL DEFAULT 0,
    restarted_by text NOT NULL DEFAULT ''::text,
    trace text NOT NULL DEFAULT ''::text,
    parent uuid,
    parent_job uuid,
    redo json,
    paused_at timestamp with time zone,
    refused text NOT NULL DEFAULT ''::text
);
ALTER TABLE jobs ADD CONSTRAINT jobs_pkey PRIMARY KEY (id);
CREATE INDEX jobs_below ON jobs USING btree (parent_job) WHERE (parent_job IS NOT NULL);
CREATE INDEX jobs_to_drive ON jobs USING btree (shard, drive_at) WHERE (drive_at IS NOT NULL);

CREATE TABLE lanes (
    id uuid NOT NULL,
    host text NOT NULL,
    waiting integer NOT NULL,
    due_at timestamp with time zone NOT NULL,
    owner integer NOT NULL,
    endpoint text NOT NULL DEFAULT ''::text
);
ALTER TABLE lanes ADD CONSTRAINT lanes_pkey PRIMARY KEY (id);
CREATE INDEX lanes_due ON lanes USING btree (endpoint, due_at) WHERE (owner = 0);
CREATE INDEX lanes_taken ON lanes USING btree (owner) WHERE (owner <> 0);

CREATE TABLE nodes (
    id text NOT NULL,
    name text NOT NULL,
    service text NOT NULL,
    hostname text NOT NULL,
    version text NOT NULL,
    port integer NOT NULL,
    status text NOT NULL,
    cpu_percent double precision NOT NULL,
    queues json NOT NULL,
    task_count integer NOT NULL,
    started_at timestamp with time zone NOT NULL,
    last_heartbeat_at timestamp with time zone NOT NULL
);
ALTER TABLE nodes ADD CONSTRAINT nodes_pkey PRIMARY KEY (id);
CREATE INDEX nodes_recent ON nodes USING btree (last_heartbeat_at);

CREATE TABLE quarantine (
    id uuid NOT NULL,
    subject text NOT NULL,
    payload bytea NOT NULL,
    headers json NOT NULL,
    reason text NOT NULL,
    at timestamp with time zone NOT NULL
);
ALTER TABLE quarantine ADD CONSTRAINT quarantine_pkey PRIMARY KEY (id);

CREATE TABLE scheduler_time (
    one boolean NOT NULL DEFAULT true,
    at timestamp with time zone NOT NULL,
    boot text NOT NULL,
    boot_s double precision NOT NULL
);
ALTER TABLE scheduler_time ADD CONSTRAINT scheduler_time_one_check CHECK (one);
ALTER TABLE scheduler_time ADD CONSTRAINT scheduler_time_pkey PRIMARY KEY (one);

CREATE TABLE sealed_texts (
    owner uuid NOT NULL,
    field text NOT NULL,
    job uuid NOT NULL,
    sealed text NOT NULL
);
ALTER TABLE sealed_texts ADD CONSTRAINT sealed_texts_pkey PRIMARY KEY (owner, field);
CREATE INDEX sealed_texts_of_job ON sealed_texts USING btree (job);

CREATE TABLE shards (
    shard smallint NOT NULL,
    head bigint NOT NULL DEFAULT 0,
    incarnation text NOT NULL DEFAULT ''::text,
    owner text NOT NULL DEFAULT ''::text
);
ALTER TABLE shards ADD CONSTRAINT shards_pkey PRIMARY KEY (shard);

CREATE TABLE task_logs (
    task uuid NOT NULL,
    attempt integer NOT NULL,
    number integer NOT NULL,
    job uuid NOT NULL,
    contents text NOT NULL,
    streams json NOT NULL,
    at timestamp with time zone NOT NULL
);
ALTER TABLE task_logs ADD CONSTRAINT task_logs_pkey PRIMARY KEY (task, attempt, number);
CREATE INDEX task_logs_of_job ON task_logs USING btree (job);

CREATE TABLE tasks (
    id uuid NOT NULL,
    job uuid NOT NULL,
    shard smallint NOT NULL,
    run integer NOT NULL,
    key text NOT NULL,
    position integer NOT NULL,
    attempt integer NOT NULL,
    retries integer NOT NULL,
    redelivered integer NOT NULL,
    state text NOT NULL,
    queue text NOT NULL,
    worker text NOT NULL,
    definition json NOT NULL,
    progress double precision NOT NULL,
    created_at timestamp with time zone NOT NULL,
    scheduled_at timestamp with time zone,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    failed_at timestamp with time zone,
    result text NOT NULL,
    error text NOT NULL,
    drive_at timestamp with time zone,
    drives smallint NOT NULL DEFAULT 0,
    stopping text NOT NULL DEFAULT ''::text,
    parent uuid
);
ALTER TABLE tasks ADD CONSTRAINT tasks_pkey PRIMARY KEY (id);
CREATE INDEX tasks_of_job ON tasks USING btree (job, "position");
CREATE INDEX tasks_running ON tasks USING btree (worker) WHERE (state = 'RUNNING'::text);
CREATE INDEX tasks_stopping ON tasks USING btree (stopping) WHERE (stopping <> ''::text);
CREATE INDEX tasks_to_drive ON tasks USING btree (shard, drive_at) WHERE (drive_at IS NOT NULL);

CREATE TABLE ticket_key (
    one boolean NOT NULL DEFAULT true,
    key bytea NOT NULL
);
ALTER TABLE ticket_key ADD CONSTRAINT ticket_key_one_check CHECK (one);
ALTER TABLE ticket_key ADD CONSTRAINT ticket_key_pkey PRIMARY KEY (one);

CREATE TABLE timer_cursors (
    shard smallint NOT NULL,
    position bigint NOT NULL,
    level_at timestamp with time zone
);
ALTER TABLE timer_cursors ADD CONSTRAINT timer_cursors_shard_fkey FOREIGN KEY (shard) REFERENCES shards(shard);
ALTER TABLE timer_cursors ADD CONSTRAINT timer_cursors_pkey PRIMARY KEY (shard);

CREATE TABLE timers (
    id uuid NOT NULL,
    job uuid NOT NULL,
    kind text NOT NULL,
    number integer NOT NULL,
    due_at timestamp with time zone NOT NULL,
    fire_at timestamp with time zone NOT NULL,
    fires smallint NOT NULL DEFAULT 0
);
ALTER TABLE timers ADD CONSTRAINT timers_pkey PRIMARY KEY (id);
CREATE INDEX timers_fired ON timers USING btree (id) WHERE (fires > 0);
CREATE INDEX timers_to_fire ON timers USING btree (fire_at);

CREATE TABLE webhook_cursors (
    shard smallint NOT NULL,
    position bigint NOT NULL
);
ALTER TABLE webhook_cursors ADD CONSTRAINT webhook_cursors_pkey PRIMARY KEY (shard);

CREATE TABLE events_job PARTITION OF events FOR VALUES IN ('job') PARTITION BY RANGE (stream);

CREATE TABLE events_job_rest PARTITION OF events_job DEFAULT;

CREATE TABLE events_rest PARTITION OF events DEFAULT;

CREATE OR REPLACE FUNCTION ensure_partitions(today date, months integer)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path FROM CURRENT
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION move_heads(moved smallint[], expected bigint[], next bigint[])
 RETURNS void
 LANGUAGE plpgsql
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION shard_locks()
 RETURNS integer
 LANGUAGE sql
 STABLE
AS $function$
    SELECT CASE current_schema() WHEN 'windlass' THEN 2003398244 ELSE hashtext(current_schema() || '.shards') & 2147483647 END
$function$;

REVOKE ALL ON FUNCTION ensure_partitions(date,integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION move_heads(smallint[],bigint[],bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION shard_locks() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partitions(date,integer) TO windlass_coordinator;
GRANT EXECUTE ON FUNCTION move_heads(smallint[],bigint[],bigint[]) TO PUBLIC;
GRANT EXECUTE ON FUNCTION shard_locks() TO PUBLIC;
GRANT USAGE ON SCHEMA windlass TO windlass_coordinator;
GRANT USAGE ON SCHEMA windlass TO windlass_gateway;
GRANT USAGE ON SCHEMA windlass TO windlass_scheduler;
GRANT USAGE ON SCHEMA windlass TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE composites TO windlass_coordinator;
GRANT SELECT ON TABLE composites TO windlass_gateway;
GRANT SELECT ON TABLE composites TO windlass_scheduler;
GRANT SELECT ON TABLE composites TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE deleted_jobs TO windlass_coordinator;
GRANT SELECT ON TABLE deleted_jobs TO windlass_gateway;
GRANT SELECT ON TABLE deleted_jobs TO windlass_scheduler;
GRANT SELECT ON TABLE deleted_jobs TO windlass_webhooks;
GRANT SELECT ON TABLE deliveries TO windlass_coordinator;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE deliveries TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE delivery_attempts TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE each_items TO windlass_coordinator;
GRANT SELECT ON TABLE each_items TO windlass_gateway;
GRANT SELECT ON TABLE each_items TO windlass_scheduler;
GRANT SELECT ON TABLE each_items TO windlass_webhooks;
GRANT INSERT, SELECT ON TABLE events TO windlass_coordinator;
GRANT SELECT ON TABLE events TO windlass_gateway;
GRANT SELECT ON TABLE events TO windlass_scheduler;
GRANT SELECT ON TABLE events TO windlass_webhooks;
GRANT SELECT ON TABLE events_job TO windlass_coordinator;
GRANT SELECT ON TABLE events_job TO windlass_gateway;
GRANT SELECT ON TABLE events_job TO windlass_scheduler;
GRANT SELECT ON TABLE events_job TO windlass_webhooks;
GRANT SELECT ON TABLE events_job_rest TO windlass_coordinator;
GRANT SELECT ON TABLE events_job_rest TO windlass_gateway;
GRANT SELECT ON TABLE events_job_rest TO windlass_scheduler;
GRANT SELECT ON TABLE events_job_rest TO windlass_webhooks;
GRANT SELECT ON TABLE events_rest TO windlass_coordinator;
GRANT SELECT ON TABLE events_rest TO windlass_gateway;
GRANT SELECT ON TABLE events_rest TO windlass_scheduler;
GRANT SELECT ON TABLE events_rest TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE hooked TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE hooked_vars TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE idempotency_keys TO windlass_coordinator;
GRANT SELECT ON TABLE idempotency_keys TO windlass_gateway;
GRANT SELECT ON TABLE idempotency_keys TO windlass_scheduler;
GRANT SELECT ON TABLE idempotency_keys TO windlass_webhooks;
GRANT SELECT ON TABLE installation TO windlass_coordinator;
GRANT SELECT ON TABLE installation TO windlass_gateway;
GRANT SELECT ON TABLE installation TO windlass_scheduler;
GRANT SELECT ON TABLE installation TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE job_counts TO windlass_coordinator;
GRANT SELECT ON TABLE job_counts TO windlass_gateway;
GRANT SELECT ON TABLE job_counts TO windlass_scheduler;
GRANT SELECT ON TABLE job_counts TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE job_keys TO windlass_coordinator;
GRANT SELECT ON TABLE job_keys TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE job_vars TO windlass_coordinator;
GRANT SELECT ON TABLE job_vars TO windlass_gateway;
GRANT SELECT ON TABLE job_vars TO windlass_scheduler;
GRANT SELECT ON TABLE job_vars TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE jobs TO windlass_coordinator;
GRANT SELECT ON TABLE jobs TO windlass_gateway;
GRANT SELECT ON TABLE jobs TO windlass_scheduler;
GRANT SELECT ON TABLE jobs TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE lanes TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE nodes TO windlass_coordinator;
GRANT SELECT ON TABLE nodes TO windlass_gateway;
GRANT SELECT ON TABLE nodes TO windlass_scheduler;
GRANT SELECT ON TABLE nodes TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE quarantine TO windlass_coordinator;
GRANT SELECT ON TABLE quarantine TO windlass_gateway;
GRANT SELECT ON TABLE quarantine TO windlass_scheduler;
GRANT SELECT ON TABLE quarantine TO windlass_webhooks;
GRANT SELECT ON TABLE scheduler_time TO windlass_coordinator;
GRANT SELECT ON TABLE scheduler_time TO windlass_gateway;
GRANT INSERT, SELECT, UPDATE ON TABLE scheduler_time TO windlass_scheduler;
GRANT SELECT ON TABLE scheduler_time TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE sealed_texts TO windlass_coordinator;
GRANT SELECT ON TABLE sealed_texts TO windlass_gateway;
GRANT SELECT ON TABLE sealed_texts TO windlass_scheduler;
GRANT SELECT ON TABLE sealed_texts TO windlass_webhooks;
GRANT SELECT, UPDATE ON TABLE shards TO windlass_coordinator;
GRANT SELECT ON TABLE shards TO windlass_gateway;
GRANT SELECT ON TABLE shards TO windlass_scheduler;
GRANT SELECT ON TABLE shards TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE task_logs TO windlass_coordinator;
GRANT SELECT ON TABLE task_logs TO windlass_gateway;
GRANT SELECT ON TABLE task_logs TO windlass_scheduler;
GRANT SELECT ON TABLE task_logs TO windlass_webhooks;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE tasks TO windlass_coordinator;
GRANT SELECT ON TABLE tasks TO windlass_gateway;
GRANT SELECT ON TABLE tasks TO windlass_scheduler;
GRANT SELECT ON TABLE tasks TO windlass_webhooks;
GRANT SELECT ON TABLE ticket_key TO windlass_coordinator;
GRANT SELECT ON TABLE timer_cursors TO windlass_coordinator;
GRANT SELECT ON TABLE timer_cursors TO windlass_gateway;
GRANT SELECT, UPDATE ON TABLE timer_cursors TO windlass_scheduler;
GRANT SELECT ON TABLE timer_cursors TO windlass_webhooks;
GRANT SELECT ON TABLE timers TO windlass_coordinator;
GRANT SELECT ON TABLE timers TO windlass_gateway;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE timers TO windlass_scheduler;
GRANT SELECT ON TABLE timers TO windlass_webhooks;
GRANT SELECT ON TABLE webhook_cursors TO windlass_coordinator;
GRANT SELECT, UPDATE ON TABLE webhook_cursors TO windlass_webhooks;
