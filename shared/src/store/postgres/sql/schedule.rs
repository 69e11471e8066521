//! The statements about schedules: register, update, pause, resume, trigger, delete, read.

use crate::store::selection::{Condition, list_condition};
use crate::store::sql::standing;
use crate::store::{Page, ScheduleFilter};

/// Whether schedule `s`, which has one occurrence, has had it.
macro_rules! is_over {
    () => {
        "(s.once AND s.state = 0 AND armed_outcome(s.id, s.revision) IS NOT NULL)"
    };
}

/// 1 where that occurrence succeeded: what [`super::RUN_SETTLE`] left to be read from the run is counted in the row
/// before the row stands for another revision.
macro_rules! uncounted {
    () => {
        "CASE WHEN s.once AND s.state = 0 AND armed_outcome(s.id, s.revision) = 2 THEN 1 ELSE 0 END"
    };
}

/// Locks the schedule `$2` before a change looks at it. A change that waits for a settle, which may leave the row as it is,
/// is not looked at again by the database when the lock is there: what it asks of [`is_over`] has to be asked after.
macro_rules! locked {
    ($states:literal) => {
        concat!(
            "locked AS MATERIALIZED (SELECT s.id FROM schedules s WHERE s.id = $2 AND s.state IN (",
            $states,
            ") FOR UPDATE)"
        )
    };
}

/// Arms the schedules of `written` (id, revision, series, state, and how to arm). Replaces the pending
/// armed run in place under a new id: of two who arm at once exactly one run is left, the newest's.
///
/// A calendar is not armed before an instant it has run (the clock was set back): it would come to that instant
/// again and end there without a successor. Arming the taken instant instead makes the insert fail as it should.
///
/// `$rules` is the version of the time zones' rules by which an instant was found that was given as such.
macro_rules! armed {
    ($rules:literal) => {
        concat!(
            "armed AS (
  INSERT INTO runs AS r (id, schedule_id, revision, series, nominal_at, due_at, armed, queue, priority, state, created_at,
                         zone_rules, zone_newest)
  SELECT w.run_id, w.id, w.revision, CASE WHEN w.calendar THEN 0 ELSE w.series END,
         n.at, greatest(n.at, c.now), true, w.queue, w.priority, 0, c.now,
         CASE WHEN w.arm_at IS NOT NULL THEN ",
            $rules,
            "::integer END, w.arm_at IS NULL OR ",
            $rules,
            "::integer >= (SELECT z.version FROM zone_rules z)
    FROM written w CROSS JOIN clock c
   CROSS JOIN LATERAL (
         SELECT coalesce((SELECT r.nominal_at FROM runs r
                           WHERE w.calendar AND r.schedule_id = w.id AND r.series = 0 AND r.nominal_at > w.arm_at
                             AND r.state <> 0 LIMIT 1),
                         w.arm_at, c.now + w.arm_after) AS at) n
   WHERE w.state = 0
   ORDER BY w.id
  ON CONFLICT (schedule_id) WHERE state = 0 AND armed DO UPDATE
     SET id = excluded.id, revision = excluded.revision, series = excluded.series, nominal_at = excluded.nominal_at,
         due_at = excluded.due_at, queue = excluded.queue, priority = excluded.priority, attempt = 0, crashes = 0,
         lease_owner = NULL, claimed_at = NULL, outcome = NULL, http_status = NULL, detail = NULL,
         created_at = excluded.created_at, woken_at = NULL, dispatched_at = NULL, first_byte_at = NULL, late_cause = NULL,
         zone_rules = excluded.zone_rules, zone_newest = excluded.zone_newest
  RETURNING r.schedule_id, r.due_at)"
        )
    };
}

/// The schedule of a client key that was not written.
macro_rules! found {
    ($application:literal, $group:literal, $key:literal, $operation:literal, $client_type:literal) => {
        concat!(
            "SELECT s.id, s.revision, p.due_at,
       s.state = 0 AND p.due_at IS NULL AND NOT EXISTS (
         SELECT 1 FROM runs r WHERE r.schedule_id = s.id AND r.armed AND r.revision = s.revision
            AND (r.state = 1 OR s.once)) AS armed_missing
  FROM schedules s LEFT JOIN LATERAL (
       SELECT r.due_at FROM runs r WHERE r.schedule_id = s.id AND r.state = 0 AND r.armed) p ON true
 WHERE s.application = ",
            $application,
            " AND s.client_group = ",
            $group,
            " AND s.client_key = ",
            $key,
            " AND s.operation = ",
            $operation,
            " AND s.client_type = ",
            $client_type,
            " AND s.state <> 3"
        )
    };
}

/// Writes the schedules of `input i` that are new or other than before.
///
/// An arming that is never equal to the one before (`now`, `delay`, a date that has passed) gets a
/// fingerprint nothing else has, so that one comparison decides for all timings.
macro_rules! upserted {
    () => {
        concat!(
            "upserted AS (
  INSERT INTO schedules AS s (id, application, client_group, client_key, operation, client_type, name, state, revision,
                              series, iterations, fingerprint, payload, queue, priority, created_at, updated_at,
                              history_check, once)
  SELECT i.id, i.application, i.client_group, i.client_key, i.operation, i.client_type, i.name, 0, 1,
         CASE WHEN i.calendar THEN 0 ELSE 1 END, 0,
         i.fingerprint || CASE WHEN i.unchanged = 2 OR (i.unchanged = 1 AND i.arm_at <= c.now)
                               THEN ':' || i.run_id ELSE '' END,
         i.payload, i.queue, i.priority, c.now, c.now, i.history_check, i.unchanged <> 0
    FROM input i CROSS JOIN clock c
   -- always in the same order, so that two batches wait for each other and do not deadlock
   ORDER BY i.application COLLATE \"C\", i.client_group COLLATE \"C\", i.client_key COLLATE \"C\", i.operation COLLATE \"C\",
            i.client_type COLLATE \"C\"
  ON CONFLICT (application, client_group, client_key, operation, client_type) WHERE state <> 3 DO UPDATE
     SET name = excluded.name, fingerprint = excluded.fingerprint, payload = excluded.payload, queue = excluded.queue,
         priority = excluded.priority, state = CASE WHEN s.state = 1 THEN 1 ELSE 0 END, revision = s.revision + 1,
         series = s.series + excluded.series, updated_at = excluded.updated_at, prune_at = NULL,
         history_check = excluded.history_check, once = excluded.once, iterations = s.iterations + ",
            uncounted!(),
            "
   WHERE s.fingerprint <> excluded.fingerprint OR s.state = 2 OR ",
            is_over!(),
            "
  RETURNING s.id, s.application, s.client_group, s.client_key, s.operation, s.client_type, s.name, s.state, s.revision,
            s.series, s.queue, s.priority, s.history_check)"
        )
    };
}

/// The columns of a registration, as the statements name them.
macro_rules! registration_columns {
    () => {
        "(id, application, client_group, client_key, operation, client_type, name, payload, fingerprint, queue,
               priority, calendar, arm_at, unchanged, run_id, history_check"
    };
}

/// What became of a batch of which `written` was written. Answers in parts, which the caller puts together by `ord`, the
/// place in the batch, and by id: 0 the schedules that were written, 1 when what was armed of them is due, 2 the
/// schedules that were left alone (with `armed_missing` when their armed run is not there). A place without an answer
/// was taken by somebody else a moment ago: asked again it is found.
macro_rules! upsert_answer {
    () => {
        concat!(
            "
SELECT c.now, 0 AS part, w.ord::bigint, w.id, w.revision, NULL::bigint AS due_at, false AS armed_missing
  FROM clock c CROSS JOIN written w
UNION ALL
SELECT c.now, 1, NULL, a.schedule_id, NULL, a.due_at, false
  FROM clock c CROSS JOIN armed a
UNION ALL
SELECT c.now, 2, i.ord, f.*
  FROM clock c CROSS JOIN input i CROSS JOIN LATERAL (",
            found!("i.application", "i.client_group", "i.client_key", "i.operation", "i.client_type"),
            " OFFSET 0) f
 WHERE i.ord <> ALL (ARRAY(SELECT w.ord FROM written w))"
        )
    };
}

/// Registers a batch by client key.
///
/// `$1` now; the rest are columns of the batch, named in `registration_columns` in the order of their numbers, but for
/// `$15`: how long after now to arm, where `$14` (`arm_at`) does not say when. `unchanged`: 0 keep, 1 arm again once the
/// instant has passed, 2 always arm again.
///
/// 1. `upserted`: the schedules that are new or other than before, in the order of their client keys.
/// 2. `written`: the same with their places in the batch.
/// 3. `armed`: their pending runs, each put in the place of the one before, if there is one.
/// 4. `told`: the history, where it is asked for.
///
/// Locks: schedules by client key, then their pending runs. No race: the unique index of client keys lets one of two
/// inserts in and makes the other an update of what the first committed; `runs_armed` does the same for the pending run,
/// against a settle that arms meanwhile. A settle under way holds the schedule's lock first.
pub const SCHEDULE_UPSERT: &str = concat!(
    "WITH ",
    clock!(),
    ",
input AS MATERIALIZED (
  SELECT i.*, ROW(i.application, i.client_group, i.client_key, i.operation, i.client_type)::text AS identity
    FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                $11::text[], $12::smallint[], $13::boolean[], $14::bigint[], $16::smallint[], $17::uuid[], $18::boolean[])
         WITH ORDINALITY
         AS i ",
    registration_columns!(),
    ", ord)),
",
    upserted!(),
    ",
-- Their places in the batch, found in an array: a join by value would compare each with each.
written AS MATERIALIZED (
  SELECT u.*, p.ord, ($13::boolean[])[p.ord] AS calendar, ($14::bigint[])[p.ord] AS arm_at,
         ($15::bigint[])[p.ord] AS arm_after, ($17::uuid[])[p.ord] AS run_id
    FROM upserted u CROSS JOIN (SELECT array_agg(i.identity ORDER BY i.ord) AS identities FROM input i) b
   CROSS JOIN LATERAL (
         SELECT array_position(b.identities,
                               ROW(u.application, u.client_group, u.client_key, u.operation, u.client_type)::text) AS ord) p),
",
    armed!("$19"),
    ",\n",
    told!("CASE WHEN t.revision = 1 THEN 0 ELSE 1 END", "CASE WHEN t.state = 0 THEN t.run_id END", "written"),
    upsert_answer!(),
);

/// Registers one: the same for a batch of one, without the steps that only several need.
pub const SCHEDULE_UPSERT_ONE: &str = concat!(
    "WITH ",
    clock!(),
    ",
input AS (
  SELECT i.*, 1::bigint AS ord
    FROM (SELECT $2::uuid, $3::text, $4::text, $5::text, $6::text, $7::text, $8::text, $9::text, $10::text,
                 $11::text, $12::smallint, $13::boolean, $14::bigint, $16::smallint, $17::uuid, $18::boolean)
         AS i ",
    registration_columns!(),
    ")),
",
    upserted!(),
    ",
written AS MATERIALIZED (
  SELECT u.*, 1::bigint AS ord, $13::boolean AS calendar, $14::bigint AS arm_at, $15::bigint AS arm_after,
         $17::uuid AS run_id
    FROM upserted u),
",
    armed!("$19"),
    ",\n",
    told!("CASE WHEN t.revision = 1 THEN 0 ELSE 1 END", "CASE WHEN t.state = 0 THEN t.run_id END", "written"),
    upsert_answer!(),
);

/// The schedule of a client key, what is armed of it, and whether its armed run is missing.
pub const SCHEDULE_FIND: &str = found!("$1", "$2", "$3", "$4", "$5");

/// Replaces one schedule by id. No row: it is unchanged or not there.
pub const SCHEDULE_UPDATE: &str = concat!(
    "WITH ",
    clock!(),
    ",
",
    locked!("0, 1, 2"),
    ",
input AS MATERIALIZED (
  SELECT $9::text || CASE WHEN $15::smallint = 2 OR ($15 = 1 AND $13::bigint <= c.now) THEN ':' || $16::uuid ELSE '' END
         AS fingerprint FROM clock c),
updated AS (
  UPDATE schedules s
     SET application = $3, client_group = $4, client_key = $5, operation = $6, client_type = $7, name = $8,
         fingerprint = i.fingerprint, payload = $10, queue = $11, priority = $12,
         state = CASE WHEN s.state = 1 THEN 1 ELSE 0 END, revision = s.revision + 1,
         series = s.series + CASE WHEN $17::boolean THEN 0 ELSE 1 END, updated_at = c.now, prune_at = NULL,
         history_check = $18::boolean, once = $15 <> 0, iterations = s.iterations + ",
    uncounted!(),
    "
    FROM locked l CROSS JOIN input i CROSS JOIN clock c
   WHERE s.id = l.id AND s.state <> 3 AND (s.fingerprint <> i.fingerprint OR s.state = 2 OR ",
    is_over!(),
    ")
  RETURNING s.*),
written AS (
  SELECT u.id, u.state, u.revision, u.series, u.application, u.client_group, u.client_key, u.operation, u.client_type,
         u.name, u.history_check, $16::uuid AS run_id, $17::boolean AS calendar, $13::bigint AS arm_at,
         $14::bigint AS arm_after, $11::text AS queue, $12::smallint AS priority
    FROM updated u),
",
    armed!("$19"),
    ",\n",
    told!("1", "CASE WHEN t.state = 0 THEN t.run_id END", "written"),
    "
SELECT c.now, w.revision, a.due_at
  FROM clock c CROSS JOIN written w LEFT JOIN armed a ON a.schedule_id = w.id"
);

/// Arms a schedule whose armed run is missing, without a new revision.
pub const SCHEDULE_REARM: &str = concat!(
    "WITH ",
    clock!(),
    ",
locked AS MATERIALIZED (
  SELECT s.id, s.state, s.revision, s.series, s.queue, s.priority FROM schedules s
   WHERE s.id = $2 AND s.state = 0 FOR UPDATE),
written AS (
  SELECT l.*, $3::uuid AS run_id, $4::boolean AS calendar, $5::bigint AS arm_at, $6::bigint AS arm_after FROM locked l
   WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE r.schedule_id = l.id AND r.state = 1 AND r.armed AND r.revision = l.revision)),
",
    armed!("$7"),
    "
SELECT a.due_at FROM armed a"
);

/// Makes a paused schedule of revision $7 active and arms it.
pub const SCHEDULE_RESUME: &str = concat!(
    "WITH ",
    clock!(),
    ",
resumed AS (
  UPDATE schedules s SET state = 0, revision = s.revision + 1, updated_at = c.now,
         series = s.series + CASE WHEN $4::boolean THEN 0 ELSE 1 END
    FROM clock c WHERE s.id = $2 AND s.state = 1 AND s.revision = $7
  RETURNING s.*),
written AS (
  SELECT u.*, $3::uuid AS run_id, $4::boolean AS calendar, $5::bigint AS arm_at, $6::bigint AS arm_after FROM resumed u),
",
    armed!("$8"),
    ",\n",
    told!("6", "t.run_id", "written"),
    "
SELECT a.due_at FROM armed a"
);

/// Makes an active schedule paused.
pub const SCHEDULE_PAUSE: &str = concat!(
    "WITH ",
    clock!(),
    ",
",
    locked!("0"),
    ",
paused AS (
  UPDATE schedules s SET state = 1, revision = s.revision + 1, updated_at = c.now
    FROM locked l CROSS JOIN clock c WHERE s.id = l.id AND s.state = 0 AND NOT ",
    is_over!(),
    "
  RETURNING s.*),
",
    told!("5", "NULL::uuid", "paused"),
    "
SELECT count(*) FROM paused"
);

/// Adds a run that is due now and not armed. A schedule that is over is kept for it, and says so in its row from now on.
pub const SCHEDULE_TRIGGER: &str = concat!(
    "WITH ",
    clock!(),
    ",
",
    locked!("0, 2"),
    ",
numbered AS (
  UPDATE schedules s
     SET series = s.series + 1, state = CASE WHEN ",
    is_over!(),
    " THEN 2 ELSE s.state END,
         iterations = s.iterations + ",
    uncounted!(),
    ",
         prune_at = CASE WHEN s.state = 2 OR ",
    is_over!(),
    " THEN c.now + $4 ELSE s.prune_at END
    FROM locked l CROSS JOIN clock c WHERE s.id = l.id AND s.state IN (0, 2)
  RETURNING s.*),
",
    told!("7", "$3::uuid", "numbered"),
    "
INSERT INTO runs (id, schedule_id, revision, series, nominal_at, due_at, armed, queue, priority, state, created_at)
SELECT $3, n.id, n.revision, n.series, c.now, c.now, false, n.queue, n.priority, 0, c.now
  FROM numbered n CROSS JOIN clock c
RETURNING due_at"
);

/// Deletes up to `$4` of what a condition on `s` selects, in id order after `$3`, and keeps it for `$2`; the parameters of
/// the condition follow.
pub fn schedule_delete(condition: &str) -> String {
    let (begin, end) = SCHEDULE_DELETE;
    format!("{begin}{condition}{end}")
}

const SCHEDULE_DELETE: (&str, &str) = (
    concat!(
        "WITH ",
        clock!(),
        ",
chosen AS MATERIALIZED (
  SELECT s.id FROM schedules s WHERE s.state <> 3 AND s.id > $3"
    ),
    concat!(
        "
   ORDER BY s.id LIMIT $4 FOR UPDATE),
deleted AS (
  UPDATE schedules s SET state = 3, revision = s.revision + 1, updated_at = c.now, prune_at = c.now + $2
    FROM chosen d CROSS JOIN clock c WHERE s.id = d.id AND s.state <> 3
  RETURNING s.*),
",
        told!("8", "NULL::uuid", "deleted"),
        "
SELECT id FROM deleted"
    ),
);

/// Cancels what is pending of deleted schedules: the one terminal transition beside settle, because
/// nothing holds these runs and nothing is to be armed after them. In the delete's transaction and after
/// its row locks, so that no settle can slip a successor behind it.
pub const RUN_CANCEL: &str = concat!(
    "WITH ",
    clock!(),
    "
UPDATE runs r SET state = 5, finished_at = c.now, outcome = 'deleted', prune_at = c.now + $3
  FROM clock c WHERE r.schedule_id = ANY($2) AND r.state = 0"
);

/// Runs of deleted schedules that are being dispatched.
pub const RUN_IN_FLIGHT: &str = "SELECT count(*) FROM runs WHERE state = 1 AND schedule_id = ANY($1)";

/// A schedule with the run that stands for its status: the armed one of its current revision.
macro_rules! schedule_select {
    () => {
        concat!(
            "SELECT s.id, s.payload, ",
            standing!(),
            " AS state, s.revision, s.iterations + CASE WHEN s.once AND s.state = 0 AND r.state = 2 THEN 1 ELSE 0 END AS iterations,
       s.created_at, s.updated_at, r.id AS run_id, r.state AS run_state, r.due_at, r.attempt, r.outcome
  FROM schedules s LEFT JOIN LATERAL (
       SELECT r.id, r.state, r.due_at, r.attempt, r.outcome FROM runs r
        WHERE r.schedule_id = s.id AND s.state IN (0, 2) AND r.armed AND r.revision = s.revision
        ORDER BY r.nominal_at DESC, r.series DESC LIMIT 1) r ON true "
        )
    };
}

/// One schedule by id.
pub const SCHEDULE_GET: &str = concat!(schedule_select!(), "WHERE s.id = $1 AND s.state <> 3");

/// A page of schedules in id order, whose text the filter decides, and its parameters; the id it starts after is
/// the last one, when there is one.
pub fn schedule_list(filter: &ScheduleFilter, page: &Page) -> (String, Vec<String>) {
    let Condition { text, values } = list_condition(filter, page);
    (format!("{SCHEDULE_LIST}{text} ORDER BY s.id LIMIT {}", page.limit), values)
}

const SCHEDULE_LIST: &str = concat!(schedule_select!(), "WHERE s.state <> 3");

/// Stored definitions in id order, after `$1`.
pub const SCHEDULE_PAYLOADS: &str = "\
SELECT id, revision, payload, fingerprint FROM schedules
 WHERE id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000') ORDER BY id LIMIT $2";

/// The same definitions, sealed anew, unless the schedule moved on.
pub const SCHEDULE_RESEAL: &str = "\
UPDATE schedules s SET payload = i.payload, fingerprint = i.fingerprint
  FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS i (id, revision, payload, fingerprint)
 WHERE s.id = i.id AND s.revision = i.revision";

/// The latest calendar instant that a run has taken among these client keys' schedules, for
/// [`crate::store::StoreError::OccurrenceTaken`]. Not the pending one: it is replaced.
pub const LATEST_BY_CLIENT: &str = "\
SELECT max(r.nominal_at) FROM schedules s JOIN runs r ON r.schedule_id = s.id AND r.series = 0 AND r.state <> 0
  JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
       AS i (application, client_group, client_key, operation, client_type)
 USING (application, client_group, client_key, operation, client_type)
 WHERE s.state <> 3";
