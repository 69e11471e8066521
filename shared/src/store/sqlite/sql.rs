//! The statements of the SQLite store.
//!
//! Differs: what is one statement on PostgreSQL is a few plain ones inside `BEGIN IMMEDIATE` here, with
//! the decisions between them in Rust. `$1` is not the clock: the transaction reads it once, by [`NOW`].

use crate::store::selection::{Condition, list_condition};
pub use crate::store::sql::*;
use crate::store::sql::{standing, zone_standing};
use crate::store::{Page, ScheduleFilter};

/// How the armed run of schedule `s`'s revision ended, which has one occurrence; null while it has not.
macro_rules! armed_outcome {
    () => {
        "(SELECT CASE WHEN n.state > 1 THEN n.state END
   FROM (SELECT r.state FROM runs r WHERE r.schedule_id = s.id AND r.armed AND r.revision = s.revision AND s.once
          ORDER BY r.nominal_at DESC, r.series DESC LIMIT 1) n)"
    };
}

/// The database's now in unix milliseconds; `$1` is the injected one. `subsec` has whole milliseconds,
/// which a product of doubles may miss by a hair: hence `round`.
pub const NOW: &str = "SELECT coalesce($1, CAST(round(unixepoch('subsec') * 1000) AS INTEGER))";

macro_rules! by_client {
    () => {
        "s.application = $1 AND s.client_group = $2 AND s.client_key = $3 AND s.operation = $4 AND s.client_type = $5
   AND s.state <> 3"
    };
}

macro_rules! found {
    () => {
        concat!(
            "SELECT s.id, s.state, s.revision, s.series, s.fingerprint, s.queue, s.priority,
       (SELECT due_at FROM runs p WHERE p.schedule_id = s.id AND p.state = 0 AND p.armed) AS due_at,
       EXISTS (SELECT 1 FROM runs r WHERE r.schedule_id = s.id AND r.state = 1 AND r.armed AND r.revision = s.revision)
         AS running,
       CASE WHEN s.state = 0 THEN ",
            armed_outcome!(),
            " END AS armed_outcome
  FROM schedules s WHERE "
        )
    };
}

/// The schedule of a client key, with what is armed of it.
pub const SCHEDULE_FIND: &str = concat!(found!(), by_client!());

/// Which places of a list of client keys, as JSON, have a schedule.
pub const SCHEDULES_FOUND: &str = "\
SELECT k.key AS place FROM json_each($1) k CROSS JOIN schedules s
    ON s.application = k.value ->> 0 AND s.client_group = k.value ->> 1 AND s.client_key = k.value ->> 2
   AND s.operation = k.value ->> 3 AND s.client_type = k.value ->> 4 AND s.state <> 3";

/// The schedule of an id, with what is armed of it.
pub const SCHEDULE_FIND_BY_ID: &str = concat!(found!(), "s.id = $1 AND s.state <> 3");

/// A new schedule.
pub const SCHEDULE_INSERT: &str = "\
INSERT INTO schedules (id, application, client_group, client_key, operation, client_type, name, fingerprint, payload,
                       queue, priority, series, created_at, updated_at, history_check, once, state, revision, iterations)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $14, $15, 0, 1, $16)";

/// So many new schedules, 15 parameters each, in the order of [`SCHEDULE_INSERT`] without its last.
pub fn schedules_insert(schedules: usize) -> String {
    let row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 1, 0)";
    let rows = vec![row; schedules].join(", ");
    format!(
        "INSERT INTO schedules (id, application, client_group, client_key, operation, client_type, name, fingerprint, payload,
                       queue, priority, series, created_at, updated_at, history_check, once, state, revision, iterations)
VALUES {rows}"
    )
}

/// Whether the cluster knows no rules of time zones that are newer than these (null: no zone counts).
macro_rules! zone_newest {
    ($rules:literal) => {
        concat!("coalesce(", $rules, " >= (SELECT version FROM zone_rules), 1)")
    };
}

/// So many armed runs of new schedules, 8 parameters each.
pub fn runs_arm(runs: usize) -> String {
    let newest = concat!("(?, ?, 1, ?, ?, ?, 1, ?, ?, 0, ?, ?, ", zone_newest!("?"), ")");
    let rows = vec![newest; runs].join(", ");
    format!(
        "INSERT INTO runs (id, schedule_id, revision, series, nominal_at, due_at, armed, queue, priority, state, created_at,
                  zone_rules, zone_newest)
VALUES {rows}"
    )
}

/// A schedule replaced by id.
pub const SCHEDULE_REPLACE: &str = "\
UPDATE schedules
   SET application = $2, client_group = $3, client_key = $4, operation = $5, client_type = $6, name = $7, fingerprint = $8,
       payload = $9, queue = $10, priority = $11, series = $12, updated_at = $13, history_check = $14,
       once = $15, iterations = iterations + $16, state = CASE WHEN state = 1 THEN 1 ELSE 0 END, revision = revision + 1, prune_at = NULL
 WHERE id = $1
RETURNING state, revision";

/// Arms a schedule; replaces its pending armed run in place under a new id.
pub const RUN_ARM: &str = concat!(
    "\
INSERT INTO runs (id, schedule_id, revision, series, nominal_at, due_at, armed, queue, priority, state, created_at,
                  zone_rules, zone_newest)
VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, 0, $9, $10, ",
    zone_newest!("$10"),
    ")
ON CONFLICT (schedule_id) WHERE state = 0 AND armed DO UPDATE
   SET id = excluded.id, revision = excluded.revision, series = excluded.series, nominal_at = excluded.nominal_at,
       due_at = excluded.due_at, queue = excluded.queue, priority = excluded.priority, attempt = 0, crashes = 0,
       lease_owner = NULL, claimed_at = NULL, outcome = NULL, http_status = NULL, detail = NULL,
       created_at = excluded.created_at, woken_at = NULL, dispatched_at = NULL, first_byte_at = NULL, late_cause = NULL,
       zone_rules = excluded.zone_rules, zone_newest = excluded.zone_newest"
);

/// The next calendar instant after the one to be armed that a run has taken: the clock was set back, and the
/// schedule would come to that instant again and end there without a successor.
pub const RUN_AHEAD: &str = "\
SELECT nominal_at FROM runs WHERE schedule_id = $1 AND series = 0 AND nominal_at > $2 AND state <> 0 LIMIT 1";

/// Arms a successor, unless a newer definition has armed the schedule meanwhile.
pub const RUN_ARM_SUCCESSOR: &str = concat!(
    "\
INSERT INTO runs (id, schedule_id, revision, series, nominal_at, due_at, armed, queue, priority, state, created_at,
                  zone_rules, zone_newest)
VALUES ($1, $2, $3, $4, $5, $5, 1, $6, $7, 0, $8, $9, ",
    zone_newest!("$9"),
    ") ON CONFLICT DO NOTHING"
);

/// Makes an active schedule paused that is not over.
pub const SCHEDULE_PAUSE: &str = concat!(
    "UPDATE schedules AS s SET state = 1, revision = revision + 1, updated_at = $2 WHERE id = $1 AND state = 0 AND ",
    armed_outcome!(),
    " IS NULL"
);

/// Makes a paused schedule of revision $4 active.
pub const SCHEDULE_RESUME: &str = "\
UPDATE schedules SET state = 0, revision = revision + 1, updated_at = $2, series = series + $3
 WHERE id = $1 AND state = 1 AND revision = $4
RETURNING revision, series, queue, priority";

/// Takes the next series for a triggered run. A schedule that is over is kept for it, until `$2`.
pub const SCHEDULE_NUMBER: &str = "\
UPDATE schedules SET series = series + 1, prune_at = CASE WHEN state = 2 THEN $2 ELSE prune_at END
 WHERE id = $1 AND state IN (0, 2)
RETURNING revision, series, queue, priority";

/// A schedule that is over says so in its row from now on.
pub const SCHEDULE_OVER: &str = concat!(
    "UPDATE schedules AS s SET state = 2, iterations = iterations + CASE ",
    armed_outcome!(),
    " WHEN 2 THEN 1 ELSE 0 END WHERE id = $1 AND state = 0 AND ",
    armed_outcome!(),
    " IS NOT NULL"
);

/// Adds a run that is due now and not armed.
pub const RUN_TRIGGER: &str = "\
INSERT INTO runs (id, schedule_id, revision, series, nominal_at, due_at, armed, queue, priority, state, created_at)
VALUES ($1, $2, $3, $4, $5, $5, 0, $6, $7, 0, $5)";

/// Deletes up to `$4` of what a condition on `s` selects, in id order after `$3`; `$1` is now, `$2` how long it is kept.
pub fn schedule_delete(condition: &str) -> String {
    format!(
        "UPDATE schedules SET state = 3, revision = revision + 1, updated_at = $1, prune_at = $1 + $2
 WHERE id IN (SELECT s.id FROM schedules s WHERE s.state <> 3 AND s.id > $3{condition} ORDER BY s.id LIMIT $4)
RETURNING id"
    )
}

/// The ids of a list as JSON, in hexadecimal.
macro_rules! listed {
    () => {
        "(SELECT unhex(value) FROM json_each($1))"
    };
}

/// Cancels what is pending of deleted schedules: the one terminal transition beside settle, because
/// nothing holds these runs and nothing is to be armed after them.
pub const RUN_CANCEL: &str = concat!(
    "UPDATE runs SET state = 5, finished_at = $2, outcome = 'deleted', prune_at = $2 + $3 WHERE schedule_id IN ",
    listed!(),
    " AND state = 0"
);

/// Runs of deleted schedules that are being dispatched.
pub const RUN_IN_FLIGHT: &str = concat!("SELECT count(*) FROM runs WHERE state = 1 AND schedule_id IN ", listed!());

/// Tells the history that schedules were deleted.
pub const HISTORY_TELL_DELETED: &str = concat!(
    "INSERT INTO history (at, kind, schedule_id, application, client_group, client_key, operation, client_type, name, revision)
SELECT $2, $3, id, application, client_group, client_key, operation, client_type, name, revision
  FROM schedules WHERE id IN ",
    listed!(),
    " AND history_check"
);

macro_rules! schedule_select {
    () => {
        concat!(
            "SELECT s.id, s.payload, ",
            standing!(),
            " AS state, s.revision, s.iterations + CASE WHEN s.once AND s.state = 0 AND r.state = 2 THEN 1 ELSE 0 END AS iterations,
       s.created_at, s.updated_at, r.id AS run_id, r.state AS run_state, r.due_at, r.attempt, r.outcome
  FROM schedules s LEFT JOIN runs r ON r.id = (
       SELECT c.id FROM runs c
        WHERE c.schedule_id = s.id AND s.state IN (0, 2) AND c.armed AND c.revision = s.revision
        ORDER BY c.nominal_at DESC, c.series DESC LIMIT 1) "
        )
    };
}

/// One schedule by id.
pub const SCHEDULE_GET: &str = concat!(schedule_select!(), "WHERE s.id = $1 AND s.state <> 3");

/// The stored definition of a client key.
pub const PAYLOAD_BY_CLIENT: &str = concat!("SELECT s.payload FROM schedules s WHERE ", by_client!());

/// A page of schedules in id order, whose text the filter decides, and its parameters; the id it starts after is
/// the last one, when there is one.
pub fn schedule_list(filter: &ScheduleFilter, page: &Page) -> (String, Vec<String>) {
    let Condition { text, values } = list_condition(filter, page);
    (format!("{SCHEDULE_LIST}{text} ORDER BY s.id LIMIT {}", page.limit), values)
}

const SCHEDULE_LIST: &str = concat!(schedule_select!(), "WHERE s.state <> 3");

/// The priorities in use by the queues of `$1` (JSON), highest first: a loose index scan.
pub const BANDS: &str = "\
WITH RECURSIVE band (queue, priority) AS (
  SELECT q.value, (SELECT r.priority FROM runs r WHERE r.state = 0 AND r.queue = q.value ORDER BY r.priority DESC LIMIT 1)
    FROM json_each($1) q
  UNION ALL
  SELECT b.queue, (SELECT r.priority FROM runs r WHERE r.state = 0 AND r.queue = b.queue AND r.priority < b.priority
                    ORDER BY r.priority DESC LIMIT 1)
    FROM band b WHERE b.priority IS NOT NULL)
SELECT queue, priority FROM band WHERE priority IS NOT NULL ORDER BY priority DESC";

/// Due runs of one queue and priority: `$1` now, `$2` queue, `$3` priority, `$4` how many.
macro_rules! ready {
    () => {
        "SELECT id FROM runs WHERE state = 0 AND queue = $2 AND priority = $3 AND due_at <= $1 ORDER BY due_at, id LIMIT $4"
    };
}

/// Expired leases of the queues of `$2` (JSON); `$3` keeps the parameters aligned with the due runs'.
macro_rules! expired {
    () => {
        "SELECT id FROM runs
  WHERE state = 1 AND lease_until <= $1 AND queue IN (SELECT value FROM json_each($2)) AND $3 IS NOT NULL
  ORDER BY lease_until, id LIMIT $4"
    };
}

macro_rules! taken {
    ($subset:expr) => {
        concat!(
            "SELECT r.id, r.schedule_id, r.revision, r.series, r.nominal_at, r.due_at,
       coalesce(r.created_at, r.nominal_at) AS created_at, r.armed, r.priority, r.attempt + 1 AS attempt, r.crashes + (r.state = 1) AS crashes, r.lease_token + 1 AS lease_token, r.late_cause,
       r.state = 1 AS reclaimed, s.state AS schedule_state, s.revision AS schedule_revision, s.payload
  FROM runs r LEFT JOIN schedules s ON s.id = r.schedule_id WHERE r.id IN (",
            $subset,
            ")"
        )
    };
}

macro_rules! take {
    ($subset:expr) => {
        concat!(
            "UPDATE runs
   SET state = 1, attempt = attempt + 1, crashes = crashes + (state = 1), lease_token = lease_token + 1, lease_owner = $5,
       claimed_at = $1, lease_until = $6
 WHERE id IN (",
            $subset,
            ")"
        )
    };
}

/// Due runs as they will be once taken by [`TAKE_READY`], which picks the same ones.
pub const READY: &str = taken!(ready!());
/// Takes due runs; `$5` owner, `$6` lease until.
pub const TAKE_READY: &str = take!(ready!());
/// Expired leases as they will be once taken by [`TAKE_EXPIRED`], which picks the same ones.
pub const EXPIRED: &str = taken!(expired!());
/// Takes expired leases.
pub const TAKE_EXPIRED: &str = take!(expired!());

/// The least instant after now.
pub const NEXT_AT: &str = "SELECT due_at FROM runs WHERE state = 0 AND due_at > $1 ORDER BY due_at LIMIT 1";

/// Runs to be settled, with their schedules; `$1` are their ids, as JSON and in hexadecimal digits.
pub const RUN_HELD: &str = "\
SELECT r.id, r.state, r.lease_token, r.schedule_id, r.revision, r.series, r.nominal_at, r.due_at, r.armed, r.queue, r.priority,
       r.attempt, r.lease_owner, s.state AS schedule_state, s.revision AS schedule_revision,
       coalesce(s.history_check, 0) AS history_check, coalesce(s.once, 0) AS once
  FROM json_each($1) i CROSS JOIN runs r ON r.id = unhex(i.value) LEFT JOIN schedules s ON s.id = r.schedule_id";

/// Writes what became of so many runs, 15 parameters each.
pub fn run_leave(runs: usize) -> String {
    let row = format!("({})", ["?"; 15].join(", "));
    let rows = vec![row; runs].join(", ");
    format!(
        "WITH i (id, state, due_at, unattempted, finished_at, prune_at, outcome, http_status, detail, coalesced, skipped,
        woken_at, dispatched_at, first_byte_at, late_cause) AS (VALUES {rows})
UPDATE runs
   SET state = i.state, lease_until = NULL, due_at = coalesce(i.due_at, runs.due_at), attempt = attempt - i.unattempted,
       finished_at = i.finished_at, prune_at = i.prune_at, coalesced = runs.coalesced + i.coalesced,
       skipped = runs.skipped + i.skipped,
       outcome = CASE WHEN i.unattempted = 1 AND i.state = 0 THEN coalesce(i.outcome, runs.outcome) ELSE i.outcome END,
       http_status = CASE WHEN i.unattempted = 1 AND i.state = 0 AND i.outcome IS NULL THEN runs.http_status
                          ELSE i.http_status END,
       detail = CASE WHEN i.unattempted = 1 AND i.state = 0 AND i.outcome IS NULL THEN runs.detail ELSE i.detail END,
       woken_at = i.woken_at, dispatched_at = i.dispatched_at, first_byte_at = i.first_byte_at,
       late_cause = coalesce(i.late_cause, runs.late_cause)
  FROM i WHERE runs.id = i.id"
    )
}

/// Counts a success (`$2`) and ends a schedule that has no further instant (`$3`: when it is pruned).
pub const SCHEDULE_COUNT: &str = "\
UPDATE schedules
   SET iterations = iterations + $2, state = CASE WHEN $3 IS NULL THEN state ELSE 2 END, prune_at = coalesce($3, prune_at)
 WHERE id = $1";

/// Keeps an attempt.
pub const ATTEMPT_INSERT: &str = "\
INSERT INTO attempts (run_id, lease_token, attempt, worker, started_at, ended_at, outcome, http_status, detail, prune_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";

/// Keeps the attempts of a dead letter as long as it.
pub const ATTEMPT_KEEP: &str = "UPDATE attempts SET prune_at = $2 WHERE run_id = $1";

/// Tells the history something of a schedule that asks for it: `$1` its id, `$2` when, `$3` the kind, `$4` the run.
pub const HISTORY_TELL: &str = "\
INSERT INTO history (at, kind, schedule_id, run_id, application, client_group, client_key, operation, client_type, name,
                     revision)
SELECT $2, $3, id, $4, application, client_group, client_key, operation, client_type, name, revision
  FROM schedules WHERE id = $1 AND history_check";

/// Tells the history how a run was settled; parameters as for [`HISTORY_TELL`], then what is known of the run.
pub const HISTORY_TELL_RUN: &str = "\
INSERT INTO history (at, kind, schedule_id, run_id, application, client_group, client_key, operation, client_type, name,
                     revision, attempt, outcome, state, http_status, lag_ms, duration_ms, late_cause, detail, worker)
SELECT $2, $3, id, $4, application, client_group, client_key, operation, client_type, name,
       $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
  FROM schedules WHERE id = $1";

/// Prolongs a lease that is still held.
pub const RUN_RENEW: &str = "UPDATE runs SET lease_until = $3 WHERE id = $1 AND lease_token = $2 AND state = 1";

/// Stored definitions in id order, after `$1`.
pub const SCHEDULE_PAYLOADS: &str =
    "SELECT id, revision, payload, fingerprint FROM schedules WHERE id > coalesce($1, x'') ORDER BY id LIMIT $2";

/// The same definition, sealed anew, unless the schedule moved on.
pub const SCHEDULE_RESEAL: &str = "UPDATE schedules SET payload = $3, fingerprint = $4 WHERE id = $1 AND revision = $2";

/// What the monitor needs to know, without the FROM that ends it.
macro_rules! wake_select {
    () => {
        "\
WITH clock AS MATERIALIZED (SELECT coalesce($1, CAST(round(unixepoch('subsec') * 1000) AS INTEGER)) AS now)
SELECT c.now AS now,
       (SELECT due_at FROM runs WHERE state = 0 ORDER BY due_at LIMIT 1) AS next_due,
       (SELECT due_at FROM runs WHERE state = 0 AND due_at > c.now ORDER BY due_at LIMIT 1) AS next_ahead,
       (SELECT lease_until FROM runs WHERE state = 1 ORDER BY lease_until LIMIT 1) AS next_lease,
       (SELECT count(*) FROM (SELECT 1 FROM runs WHERE state = 0 AND due_at <= c.now ORDER BY due_at LIMIT 10000)) AS overdue"
    };
}

/// All the monitor needs to know; `$1` is the injected now.
pub const WAKE_READ: &str = concat!(wake_select!(), "\n  FROM clock c");

/// The same, how much is running and coming, and when something is old.
pub const WAKE_FORECAST: &str = concat!(
    wake_select!(),
    ",
       (SELECT min(at) FROM (SELECT (SELECT min(prune_at) FROM runs WHERE prune_at IS NOT NULL) AS at
                   UNION ALL SELECT (SELECT min(prune_at) FROM schedules WHERE prune_at IS NOT NULL)
                   UNION ALL SELECT (SELECT min(prune_at) FROM attempts)
                   UNION ALL SELECT (SELECT min(at) FROM history) + $2)) AS next_prune,
       (SELECT count(*) FROM (SELECT 1 FROM runs WHERE state = 1 LIMIT 10000)) AS running,
       (SELECT count(*) FROM (SELECT 1 FROM runs WHERE state = 0 AND due_at > c.now AND due_at <= c.now + 60000
                               ORDER BY due_at LIMIT 10000)) AS next_minute,
       (SELECT count(*) FROM (SELECT 1 FROM runs WHERE state = 0 AND due_at > c.now AND due_at <= c.now + 300000
                               ORDER BY due_at LIMIT 10000)) AS next_five_minutes,
       ",
    zone_standing!(),
    "
  FROM clock c"
);

/// The runs of [`PRUNE_RUNS`] with which one-shots go: they say how their schedules ended.
macro_rules! over {
    ($is_needed:literal) => {
        concat!(
            "(SELECT s.id FROM (SELECT * FROM runs WHERE prune_at <= $1 ORDER BY prune_at LIMIT $2) r
   JOIN schedules s ON s.id = r.schedule_id AND s.revision = r.revision
  WHERE r.armed AND s.once AND s.state = 0
    AND NOT EXISTS (SELECT 1 FROM runs n
                     WHERE n.schedule_id = s.id AND n.armed AND n.revision = s.revision AND n.state IN (0, 1)) AND ",
            $is_needed,
            " EXISTS (SELECT 1 FROM runs o WHERE o.schedule_id = s.id AND o.state IN (0, 1)))"
        )
    };
}

/// A schedule that is over and whose triggered runs are still open stays, or they would be cancelled for want of it; its
/// own row says from then on that it is over, and it is looked at again at `$3`.
pub const PRUNE_OVER_LATER: &str = concat!(
    "UPDATE schedules AS s SET state = 2, prune_at = $3, iterations = iterations + CASE ",
    armed_outcome!(),
    " WHEN 2 THEN 1 ELSE 0 END WHERE id IN ",
    over!("")
);
/// Deletes the schedules of one-shots whose runs are about to be.
pub const PRUNE_OVER: &str = concat!("DELETE FROM schedules WHERE id IN ", over!("NOT"));
/// Deletes a batch of old runs.
pub const PRUNE_RUNS: &str =
    "DELETE FROM runs WHERE id IN (SELECT id FROM runs WHERE prune_at <= $1 ORDER BY prune_at LIMIT $2)";
/// Keeps a finished schedule while triggered runs of it are open, which would be cancelled for want of it; it is
/// looked at again at `$3`.
pub const PRUNE_LATER: &str = "\
UPDATE schedules SET prune_at = $3
 WHERE id IN (SELECT id FROM schedules WHERE prune_at <= $1 ORDER BY prune_at LIMIT $2) AND state = 2
   AND EXISTS (SELECT 1 FROM runs r WHERE r.schedule_id = schedules.id AND r.state IN (0, 1))";
/// Deletes a batch of old schedules.
pub const PRUNE_SCHEDULES: &str =
    "DELETE FROM schedules WHERE id IN (SELECT id FROM schedules WHERE prune_at <= $1 ORDER BY prune_at LIMIT $2)";
/// Deletes a batch of old attempts.
pub const PRUNE_ATTEMPTS: &str =
    "DELETE FROM attempts WHERE rowid IN (SELECT rowid FROM attempts WHERE prune_at <= $1 ORDER BY prune_at LIMIT $2)";
/// Deletes a batch of old history.
pub const PRUNE_HISTORY: &str =
    "DELETE FROM history WHERE id IN (SELECT id FROM history WHERE at <= $1 ORDER BY at LIMIT $2)";

/// Whether writing is possible. Two steps there and back: what is as it was before is not written at all.
pub const PROBE: [&str; 2] = ["UPDATE epochs SET epoch = epoch + 1", "UPDATE epochs SET epoch = epoch - 1"];

/// Moves the armed run `$3` of schedule `$1` in revision `$2`, which was never tried, to `$4`, due at `$5`; `$6` is now, `$7` the
/// version of the rules. Not where a run of that instant is there already.
pub const ZONE_MOVE: &str = concat!(
    "UPDATE runs AS r SET nominal_at = $4, due_at = $5, created_at = $6, zone_rules = $7, zone_newest = ",
    zone_newest!("$7"),
    "
 WHERE r.id = $3 AND r.schedule_id = $1 AND r.state = 0 AND r.armed AND r.attempt = 0
   AND EXISTS (SELECT 1 FROM schedules s WHERE s.id = $1 AND s.revision = $2 AND s.state = 0)
   AND NOT EXISTS (SELECT 1 FROM runs o WHERE o.schedule_id = $1 AND o.nominal_at = $4 AND o.series = r.series)"
);

/// Tells the history of schedule `$1` at `$2` that its run `$3` was moved, if it asks for that.
pub const ZONE_TELL: &str = "\
INSERT INTO history (at, kind, schedule_id, run_id, application, client_group, client_key, operation, client_type, name,
                     revision, detail)
SELECT $2, 9, s.id, $3, s.application, s.client_group, s.client_key, s.operation, s.client_type, s.name, s.revision, $4
  FROM schedules s WHERE s.id = $1 AND s.history_check";

/// The run `$1` is where it belongs by the rules `$2`.
pub const ZONE_SURE: &str = "UPDATE runs SET zone_rules = $2, zone_newest = 1 WHERE id = $1 AND state = 0";
