-- Reveille, what failed is found without reading what did not: as for PostgreSQL.

-- Runs that failed for good, and dead letters, newest last. Other runs touch neither.
CREATE INDEX runs_failed ON runs (finished_at, id) WHERE state = 3;
CREATE INDEX runs_dead ON runs (finished_at, id) WHERE state = 4;
