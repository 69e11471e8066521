-- Reveille, rules of time zones that change.

-- By which version of the rules (100 x year + letter) the instant was found; null where no zone counts.
ALTER TABLE runs ADD COLUMN zone_rules integer;
-- Whether the cluster knew none that are newer; null: armed by a version of the service that did not say.
ALTER TABLE runs ADD COLUMN zone_newest boolean;
-- Armed runs that may have to be moved: none, but for a while.
CREATE INDEX runs_zone_unsure ON runs (schedule_id) WHERE state = 0 AND armed AND zone_newest IS NOT TRUE;

-- The newest version that any monitor had, and the newest by which everything armed was examined.
CREATE TABLE zone_rules (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    version  integer NOT NULL,
    examined integer NOT NULL
);
INSERT INTO zone_rules (version, examined) VALUES (0, 0);

-- 9: a run was moved because the rules changed.
ALTER TABLE history DROP CONSTRAINT history_kind_check;
ALTER TABLE history ADD CONSTRAINT history_kind_check CHECK (kind BETWEEN 0 AND 9) NOT VALID;
