-- Tasks that others run in place of: what is counted of them, and the lists that their items come from.
ALTER TABLE tasks ADD COLUMN parent uuid;          -- the composite that a row is below
ALTER TABLE jobs ADD COLUMN parent uuid;           -- the task that waits for the end of this job
ALTER TABLE jobs ADD COLUMN parent_job uuid;       -- and its job

CREATE TABLE composites (
    task        uuid PRIMARY KEY,
    job         uuid NOT NULL,
    size        integer NOT NULL,                  -- children in all
    opened      integer NOT NULL,                  -- the index of the next
    completions integer NOT NULL,                  -- that ended well
    failures    integer NOT NULL,                  -- that did not, while the job went on
    ended       boolean NOT NULL,
    subjob      uuid,
    scope       json NOT NULL                      -- what its tasks see of the lists around it
);
CREATE INDEX composites_at_work ON composites (job) WHERE NOT ended;

CREATE TABLE each_items (
    task   uuid NOT NULL,
    first  integer NOT NULL,                       -- the index of the first element
    next   integer NOT NULL,                       -- and the one after the last
    job    uuid NOT NULL,
    is_map boolean NOT NULL,
    items  json NOT NULL,
    PRIMARY KEY (task, first)
);
CREATE INDEX each_items_of_job ON each_items (job);

GRANT SELECT, INSERT, UPDATE, DELETE ON composites, each_items TO windlass_coordinator;
GRANT SELECT ON composites, each_items TO windlass_gateway, windlass_scheduler, windlass_webhooks;
