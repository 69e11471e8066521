-- Reveille, history and the timeline of runs.

-- Whether a schedule's history is kept: told from the payload, so that no statement has to read it.
ALTER TABLE schedules ADD COLUMN history_check boolean NOT NULL DEFAULT false;
-- Not as JSON: `data` may hold escapes that PostgreSQL refuses. It stands before the field, hence the last one.
UPDATE schedules SET history_check = true
 WHERE state <> 3 AND payload LIKE '%"history_check":true%'
   AND substring(payload FROM '.*"history_check":(true|false)') = 'true';

-- The timeline of the last attempt, written by its settle; `created_at` is when the run came into being.
ALTER TABLE runs
    ADD COLUMN created_at    bigint,
    ADD COLUMN woken_at      bigint,
    ADD COLUMN dispatched_at bigint,
    ADD COLUMN first_byte_at bigint,
    ADD COLUMN late_cause    text;

-- What happened to schedules that ask for it. Append-only; names and client keys as they were, so that it outlives
-- the schedule. Kinds are the codes of model/history.rs.
CREATE TABLE history (
    id           bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           bigint   NOT NULL,
    kind         smallint NOT NULL CHECK (kind BETWEEN 0 AND 8),
    schedule_id  uuid     NOT NULL,
    run_id       uuid,
    application  text     NOT NULL,
    client_group text     NOT NULL,
    client_key   text     NOT NULL,
    operation    text     NOT NULL,
    client_type  text     NOT NULL,
    name         text     NOT NULL,
    revision     bigint   NOT NULL,
    attempt      integer,
    outcome      text,
    state        smallint, -- of the run, after it
    http_status  integer,
    lag_ms       bigint,
    duration_ms  bigint,
    late_cause   text,
    detail       text,
    worker       text
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
-- Every list is in this order; what is old is pruned in it.
CREATE INDEX history_at ON history (at, id);
CREATE INDEX history_schedule ON history (schedule_id, at, id);
CREATE INDEX history_run ON history (run_id, at, id) WHERE run_id IS NOT NULL;
CREATE INDEX history_application ON history (application, at, id);
CREATE INDEX history_group ON history (client_group, at, id);
CREATE INDEX history_key ON history (client_key, at, id);
-- What went as it should is nearly everything, and found in any order; only the rest needs an index.
CREATE INDEX history_kind ON history (kind, at, id) WHERE kind <> 2;
CREATE INDEX history_outcome ON history (outcome, at, id) WHERE outcome <> 'ok';
