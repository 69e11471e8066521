-- Reveille, rules of time zones that change: as for PostgreSQL.

ALTER TABLE runs ADD COLUMN zone_rules integer;
ALTER TABLE runs ADD COLUMN zone_newest boolean;
CREATE INDEX runs_zone_unsure ON runs (schedule_id) WHERE state = 0 AND armed AND zone_newest IS NOT TRUE;

CREATE TABLE zone_rules (
    one      boolean PRIMARY KEY DEFAULT 1 CHECK (one),
    version  integer NOT NULL,
    examined integer NOT NULL
);
INSERT INTO zone_rules (version, examined) VALUES (0, 0);

-- Differs: a check cannot be replaced, so the table is.
CREATE TABLE history_new (
    id           integer PRIMARY KEY,
    at           integer NOT NULL,
    kind         integer NOT NULL CHECK (kind BETWEEN 0 AND 9),
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
INSERT INTO history_new SELECT * FROM history;
DROP TABLE history;
ALTER TABLE history_new RENAME TO history;
CREATE INDEX history_at ON history (at, id);
CREATE INDEX history_schedule ON history (schedule_id, at, id);
CREATE INDEX history_run ON history (run_id, at, id) WHERE run_id IS NOT NULL;
CREATE INDEX history_application ON history (application, at, id);
CREATE INDEX history_group ON history (client_group, at, id);
CREATE INDEX history_key ON history (client_key, at, id);
CREATE INDEX history_kind ON history (kind, at, id) WHERE kind <> 2;
CREATE INDEX history_outcome ON history (outcome, at, id) WHERE outcome <> 'ok';
