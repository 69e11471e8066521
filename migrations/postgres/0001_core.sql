-- Reveille, core tables. Times are unix milliseconds; states are the codes of model/{schedule,run}.rs.

CREATE TABLE schedules (
    id           uuid     PRIMARY KEY,
    application  text     NOT NULL,
    client_group text     NOT NULL,
    client_key   text     NOT NULL,
    operation    text     NOT NULL,
    client_type  text     NOT NULL,
    name         text     NOT NULL,
    state        smallint NOT NULL CHECK (state BETWEEN 0 AND 3), -- active, paused, finished, deleted
    revision     bigint   NOT NULL,
    series       bigint   NOT NULL, -- the latest series handed out; 0 is the calendar's own
    iterations   bigint   NOT NULL, -- successful runs
    fingerprint  text     NOT NULL, -- equal exactly when two documents mean the same
    payload      text     NOT NULL, -- JSON of the definition
    queue        text     NOT NULL,
    priority     smallint NOT NULL,
    created_at   bigint   NOT NULL,
    updated_at   bigint   NOT NULL,
    prune_at     bigint
);
-- The identity of a schedule. A deleted one frees its key.
CREATE UNIQUE INDEX schedules_client ON schedules (application, client_group, client_key, operation, client_type)
    WHERE state <> 3;
CREATE INDEX schedules_prune ON schedules (prune_at) WHERE prune_at IS NOT NULL;

-- Narrow and hot. The literal predicates matter: a parameter in their place is 100 times slower.
CREATE TABLE runs (
    id           uuid     PRIMARY KEY,
    schedule_id  uuid     NOT NULL,
    revision     bigint   NOT NULL,
    series       bigint   NOT NULL,
    nominal_at   bigint   NOT NULL,
    due_at       bigint   NOT NULL,
    armed        boolean  NOT NULL,
    queue        text     NOT NULL,
    priority     smallint NOT NULL,
    state        smallint NOT NULL CHECK (state BETWEEN 0 AND 7), -- pending, running, then the terminal ones
    attempt      integer  NOT NULL DEFAULT 0,
    crashes      integer  NOT NULL DEFAULT 0,
    lease_token  bigint   NOT NULL DEFAULT 0, -- fencing token: only grows
    lease_owner  text,
    lease_until  bigint,
    claimed_at   bigint,
    finished_at  bigint,
    outcome      text,
    http_status  integer,
    detail       text,
    coalesced    integer  NOT NULL DEFAULT 0,
    skipped      integer  NOT NULL DEFAULT 0,
    prune_at     bigint,
    CHECK ((state = 1) = (lease_until IS NOT NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
-- One run per occurrence; also the order in which a schedule's runs are listed.
CREATE UNIQUE INDEX runs_once ON runs (schedule_id, nominal_at, series);
-- Never two armed: what register, resume and settle arm against.
CREATE UNIQUE INDEX runs_armed ON runs (schedule_id) WHERE state = 0 AND armed;
CREATE INDEX runs_ready ON runs (queue, priority DESC, due_at, id) WHERE state = 0;
CREATE INDEX runs_due ON runs (due_at) WHERE state = 0;
CREATE INDEX runs_leased ON runs (lease_until, id) WHERE state = 1;
CREATE INDEX runs_prune ON runs (prune_at) WHERE prune_at IS NOT NULL;

-- Attempts worth keeping: those that failed.
CREATE TABLE attempts (
    run_id      uuid    NOT NULL,
    lease_token bigint  NOT NULL,
    attempt     integer NOT NULL,
    worker      text    NOT NULL,
    started_at  bigint  NOT NULL,
    ended_at    bigint  NOT NULL,
    outcome     text    NOT NULL,
    http_status integer,
    detail      text    NOT NULL,
    prune_at    bigint  NOT NULL,
    PRIMARY KEY (run_id, lease_token)
);
CREATE INDEX attempts_prune ON attempts (prune_at);

-- The monitors' terms: one row.
CREATE TABLE epochs (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch bigint  NOT NULL
);
INSERT INTO epochs (epoch) VALUES (0);
