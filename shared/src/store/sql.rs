//! The statements that are the same text on both databases.

/// The state of schedule `s`, whose current run is `r`: one with a single occurrence is over when that run is.
macro_rules! standing {
    () => {
        "CASE WHEN s.once AND s.state = 0 AND r.state > 1 THEN CAST(2 AS smallint) ELSE s.state END"
    };
}
pub(super) use standing;

/// The columns of [`super::RunRow`].
macro_rules! run_select {
    () => {
        "SELECT id, schedule_id, revision, series, nominal_at, due_at, armed, queue, priority, state, attempt, crashes,
       lease_token, lease_owner, lease_until, claimed_at, finished_at, outcome, http_status, detail, coalesced, skipped,
       woken_at, dispatched_at, first_byte_at, late_cause
  FROM runs "
    };
}

/// One run.
pub const RUN_GET: &str = concat!(run_select!(), "WHERE id = $1");

/// Runs of a schedule, newest nominal instant first.
pub const RUN_LIST: &str = concat!(
    run_select!(),
    "WHERE schedule_id = $1 AND (nominal_at, series) < ($2, $3) ORDER BY nominal_at DESC, series DESC LIMIT $4"
);

/// The kept attempts of a run.
pub const ATTEMPT_LIST: &str = "\
SELECT attempt, lease_token, worker, started_at, ended_at, outcome, http_status, detail
  FROM attempts WHERE run_id = $1 ORDER BY lease_token";

/// Active schedules without an armed run of their revision: there should be none.
pub const SCHEDULE_DRY: &str = "\
SELECT s.id FROM schedules s
 WHERE s.state = 0
   AND NOT EXISTS (SELECT 1 FROM runs r
                    WHERE r.schedule_id = s.id AND r.armed AND r.revision = s.revision AND (r.state IN (0, 1) OR s.once))
 LIMIT 100";

/// Queues with pending runs: from one to the next, so that only so many rows are read as there are queues.
pub const QUEUES_PENDING: &str = "\
WITH RECURSIVE q (queue) AS (
  SELECT min(r.queue) FROM runs r WHERE r.state = 0
   UNION ALL
  SELECT (SELECT min(r.queue) FROM runs r WHERE r.state = 0 AND r.queue > q.queue) FROM q WHERE q.queue IS NOT NULL)
SELECT queue FROM q WHERE queue IS NOT NULL LIMIT 100";

/// Dead letters, counted up to 10 000.
pub const DEAD_COUNT: &str =
    "SELECT count(*) FROM (SELECT 1 FROM runs r WHERE r.state = 4 ORDER BY r.finished_at LIMIT 10000) d";

/// Recurring schedules whose last word is a failure, among the last 1 000 runs that failed and as many dead ones.
pub const SCHEDULES_FAILING: &str = "\
SELECT DISTINCT f.schedule_id
  FROM (SELECT * FROM (SELECT r.schedule_id, r.nominal_at FROM runs r WHERE r.state = 3 ORDER BY r.finished_at DESC LIMIT 1000) a
         UNION ALL
        SELECT * FROM (SELECT r.schedule_id, r.nominal_at FROM runs r WHERE r.state = 4 ORDER BY r.finished_at DESC LIMIT 1000) b) f
  JOIN schedules s ON s.id = f.schedule_id AND s.state = 0 AND NOT s.once
 WHERE NOT EXISTS (SELECT 1 FROM runs n WHERE n.schedule_id = f.schedule_id AND n.nominal_at > f.nominal_at AND n.state = 2)
 LIMIT 100";

/// What is to be known of an armed run `r` of schedule `s` to say where its instant lies by other rules.
macro_rules! zoned_columns {
    () => {
        "s.revision, s.payload, r.id AS run_id, r.nominal_at, r.attempt,
       (SELECT t.nominal_at FROM runs t WHERE t.schedule_id = s.id AND t.series = 0 AND t.state <> 0
         ORDER BY t.nominal_at DESC LIMIT 1) AS taken"
    };
}

/// Up to `$2` schedules after `$1` in id order, with what is armed of them by rules older than `$3`.
pub const ZONE_EXAMINE: &str = concat!(
    "SELECT p.id, s.id IS NOT NULL AS is_older, ",
    zoned_columns!(),
    "
  FROM (SELECT id FROM schedules WHERE id > $1 ORDER BY id LIMIT $2) p
  LEFT JOIN runs r ON r.schedule_id = p.id AND r.state = 0 AND r.armed AND r.zone_rules < $3
  LEFT JOIN schedules s ON s.id = p.id AND s.state = 0 AND r.id IS NOT NULL
 ORDER BY p.id"
);

/// Up to `$1` schedules that were armed by rules older than the newest, or nobody knows which.
pub const ZONE_UNSURE: &str = concat!(
    "SELECT s.id, true AS is_older, ",
    zoned_columns!(),
    "
  FROM runs r JOIN schedules s ON s.id = r.schedule_id
 WHERE r.state = 0 AND r.armed AND r.zone_newest IS NOT TRUE ORDER BY r.schedule_id LIMIT $1"
);

/// From now on what is armed by rules older than `$1` is to be examined.
pub const ZONE_BEGIN: &str = "UPDATE zone_rules SET version = $1 WHERE version < $1";

/// Everything that was armed was examined by the rules `$1`.
pub const ZONE_END: &str = "UPDATE zone_rules SET examined = $1 WHERE examined < $1";

/// How the rules stand, as columns.
macro_rules! zone_standing {
    () => {
        "(SELECT z.version FROM zone_rules z) AS zone_version, (SELECT z.examined FROM zone_rules z) AS zone_examined,
       EXISTS (SELECT 1 FROM runs r WHERE r.state = 0 AND r.armed AND r.zone_newest IS NOT TRUE) AS zone_unsure"
    };
}
pub(super) use zone_standing;

/// Takes away what a paused schedule had armed. Not kept as cancelled: resuming may arm the same instant.
pub const RUN_DISARM: &str = "DELETE FROM runs WHERE schedule_id = $1 AND state = 0 AND armed";

/// The latest calendar instant of a schedule that a run has taken, for [`super::StoreError::OccurrenceTaken`]. Not the
/// pending one: it is replaced, and counting it would skip it.
pub const LATEST_BY_ID: &str = "SELECT max(nominal_at) FROM runs WHERE schedule_id = $1 AND series = 0 AND state <> 0";

/// Begins a term.
pub const EPOCH_NEXT: &str = "UPDATE epochs SET epoch = epoch + 1 RETURNING epoch";

/// The migrations that were applied, as sqlx keeps them.
pub const SCHEMA: &str = "SELECT version FROM _sqlx_migrations WHERE success";

/// Keeps a key.
pub const API_KEY_CREATE: &str = "\
INSERT INTO api_keys (id, digest, scope, application, name, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// The columns of [`super::ApiKey`].
macro_rules! api_key_select {
    () => {
        "SELECT id, digest, scope, application, name, created_at, expires_at, revoked_at FROM api_keys "
    };
}

/// One key.
pub const API_KEY_GET: &str = concat!(api_key_select!(), "WHERE id = $1");

/// All keys.
pub const API_KEY_LIST: &str = concat!(api_key_select!(), "ORDER BY created_at, id");

/// Takes a key back.
pub const API_KEY_REVOKE: &str = "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";

/// Whether there is a key.
pub const API_KEY_EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM api_keys WHERE revoked_at IS NULL)";

/// How much an application has.
pub const APPLICATION_USAGE: &str = "\
SELECT (SELECT count(*) FROM (SELECT 1 FROM schedules s
                               WHERE s.application = $1 AND s.state IN (0, 1)
                                 AND (s.state = 1 OR NOT s.once OR EXISTS (
                                      SELECT 1 FROM runs r WHERE r.schedule_id = s.id AND r.armed AND r.revision = s.revision
                                         AND r.state IN (0, 1)))
                               ORDER BY s.id DESC LIMIT $4) o) AS schedules,
       (SELECT count(*) FROM (SELECT 1 FROM runs r JOIN schedules s ON s.id = r.schedule_id
                               WHERE r.state = 0 AND r.due_at >= $2 AND r.due_at < $3 AND s.application = $1
                               LIMIT $4) d) AS due";
