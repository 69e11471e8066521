-- Reveille, history and the timeline of runs: the same columns and indexes as for PostgreSQL.

-- Whether a schedule's history is kept: told from the payload, so that no statement has to read it.
ALTER TABLE schedules ADD COLUMN history_check boolean NOT NULL DEFAULT 0;
UPDATE schedules SET history_check = 1 WHERE state <> 3 AND json_extract(payload, '$.task.history_check') = 1;

-- The timeline of the last attempt, written by its settle; `created_at` is when the run came into being.
ALTER TABLE runs ADD COLUMN created_at integer;
ALTER TABLE runs ADD COLUMN woken_at integer;
ALTER TABLE runs ADD COLUMN dispatched_at integer;
ALTER TABLE runs ADD COLUMN first_byte_at integer;
ALTER TABLE runs ADD COLUMN late_cause text;

-- What happened to schedules that ask for it. Append-only; names and client keys as they were, so that it outlives
-- the schedule. Kinds are the codes of model/history.rs.
CREATE TABLE history (
    id           integer PRIMARY KEY,
    at           integer NOT NULL,
    kind         integer NOT NULL CHECK (kind BETWEEN 0 AND 8),
    schedule_id  blob    NOT NULL,
    run_id       blob,
    application  text    NOT NULL,
    client_group text    NOT NULL,
    client_key   text    NOT NULL,
    operation    text    NOT NULL,
    client_type  text    NOT NULL,
    name         text    NOT NULL,
    revision     integer NOT NULL,
    attempt      integer,
    outcome      text,
    state        integer, -- of the run, after it
    http_status  integer,
    lag_ms       integer,
    duration_ms  integer,
    late_cause   text,
    detail       text,
    worker       text
);
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
