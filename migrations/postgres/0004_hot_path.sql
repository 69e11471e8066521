-- Reveille, a hot path that writes less, and look-ups by any field of the client key.

-- Whether a schedule has no second occurrence (`now`, `date`, `delay`). Such a schedule is over when its armed run of
-- its revision is: this is read from the run, so that settling a one-shot writes one row and not two.
-- Schedules registered before say it by their state, as they did, until they are registered anew.
ALTER TABLE schedules ADD COLUMN once boolean NOT NULL DEFAULT false;

-- How the armed run of this revision ended; null while it has not. For statements that wait for a schedule's lock:
-- volatile, so that it sees what was committed meanwhile, which the rest of such a statement does not.
CREATE FUNCTION armed_outcome(schedule uuid, of_revision bigint) RETURNS smallint LANGUAGE sql VOLATILE AS
'SELECT CASE WHEN n.state > 1 THEN n.state END
   FROM (SELECT r.state FROM runs r WHERE r.schedule_id = schedule AND r.armed AND r.revision = of_revision
          ORDER BY r.nominal_at DESC, r.series DESC LIMIT 1) n';

-- One for each field that lists and deletions filter by, in the order of a list.
CREATE INDEX schedules_application ON schedules (application, id) WHERE state <> 3;
CREATE INDEX schedules_group ON schedules (client_group, id) WHERE state <> 3;
CREATE INDEX schedules_key ON schedules (client_key, id) WHERE state <> 3;
CREATE INDEX schedules_operation ON schedules (operation, id) WHERE state <> 3;
CREATE INDEX schedules_type ON schedules (client_type, id) WHERE state <> 3;
