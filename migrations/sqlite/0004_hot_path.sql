-- Reveille, a hot path that writes less, and look-ups by any field of the client key: as for PostgreSQL.

-- Whether a schedule has no second occurrence (`now`, `date`, `delay`). Such a schedule is over when its armed run of
-- its revision is: this is read from the run, so that settling a one-shot writes one row and not two.
-- Schedules registered before say it by their state, as they did, until they are registered anew.
ALTER TABLE schedules ADD COLUMN once boolean NOT NULL DEFAULT 0;

-- One for each field that lists and deletions filter by, in the order of a list.
CREATE INDEX schedules_application ON schedules (application, id) WHERE state <> 3;
CREATE INDEX schedules_group ON schedules (client_group, id) WHERE state <> 3;
CREATE INDEX schedules_key ON schedules (client_key, id) WHERE state <> 3;
CREATE INDEX schedules_operation ON schedules (operation, id) WHERE state <> 3;
CREATE INDEX schedules_type ON schedules (client_type, id) WHERE state <> 3;
