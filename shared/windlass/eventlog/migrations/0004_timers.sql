-- What the scheduler keeps: how far it has followed the log, the timers it found there, and its own time.

CREATE TABLE timer_cursors (
    shard    smallint PRIMARY KEY REFERENCES shards,
    position bigint   NOT NULL
);
INSERT INTO timer_cursors (shard, position) SELECT shard, 0 FROM shards;

-- One row for each task, or job before its start, that waits for time to pass. Moments are in the schedulers' own time.
CREATE TABLE timers (
    id      uuid        PRIMARY KEY,            -- of the task or job
    job     uuid        NOT NULL,
    kind    text        NOT NULL,               -- start, retry or deadline
    number  integer     NOT NULL,               -- the run that is to start, or the attempt: the fence
    due_at  timestamptz NOT NULL,
    fire_at timestamptz NOT NULL,               -- when it is said, at first and again
    fires   smallint    NOT NULL DEFAULT 0      -- how often it was said; the event that answers ends the timer
);
CREATE INDEX timers_to_fire ON timers (fire_at);
CREATE INDEX timers_fired ON timers (id) WHERE fires > 0;

-- The schedulers' time as it was last, and the boot-time clock of whoever wrote it, so that a step of a wall clock is no step of timers.
CREATE TABLE scheduler_time (
    one    boolean     PRIMARY KEY DEFAULT true CHECK (one),
    at     timestamptz NOT NULL,
    boot   text        NOT NULL,
    boot_s float8      NOT NULL
);

GRANT SELECT ON timer_cursors, timers, scheduler_time TO windlass_gateway, windlass_coordinator, windlass_scheduler, windlass_webhooks;
GRANT UPDATE ON timer_cursors TO windlass_scheduler;
GRANT INSERT, UPDATE, DELETE ON timers TO windlass_scheduler;
GRANT INSERT, UPDATE ON scheduler_time TO windlass_scheduler;
