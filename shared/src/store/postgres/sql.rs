//! The statements of the PostgreSQL store, public so that tests can `EXPLAIN` them.
//!
//! In all of them `$1` is the injected now, null in production. `statement_timestamp()` and not
//! `clock_timestamp()`, which defeats the indexes; `floor` and not a plain cast, which rounds up and
//! would fire half a millisecond early.

use crate::store::history::{HistoryFilter, HistoryPage, history_select};
pub use crate::store::sql::*;

/// The database's now in unix milliseconds.
macro_rules! clock {
    () => {
        "clock AS MATERIALIZED (
  SELECT coalesce($1::bigint, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint) AS now)"
    };
}

/// Tells the history what became of the schedules of `$from` (with their columns), in the same commit.
macro_rules! told {
    ($kind:literal, $run_id:literal, $from:literal) => {
        concat!(
            "told AS (
  INSERT INTO history (at, kind, schedule_id, run_id, application, client_group, client_key, operation, client_type, name,
                       revision)
  SELECT c.now, ",
            $kind,
            ", t.id, ",
            $run_id,
            ", t.application, t.client_group, t.client_key, t.operation, t.client_type, t.name, t.revision
    FROM ",
            $from,
            " t CROSS JOIN clock c WHERE t.history_check)"
        )
    };
}

/// Arms the schedules of `written` (id, revision, series, state, and how to arm). Replaces the pending
/// armed run in place under a new id: of two who arm at once exactly one run is left, the newest's.
///
/// A calendar is not armed before an instant it has run (the clock was set back): it would come to that instant
/// again and end there without a successor. Arming the taken instant instead makes the insert fail as it should.
macro_rules! armed {
    () => {
        "armed AS (
  INSERT INTO runs AS r (id, schedule_id, revision, series, nominal_at, due_at, armed, queue, priority, state, created_at)
  SELECT w.run_id, w.id, w.revision, CASE WHEN w.calendar THEN 0 ELSE w.series END,
         n.at, greatest(n.at, c.now), true, w.queue, w.priority, 0, c.now
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
         created_at = excluded.created_at, woken_at = NULL, dispatched_at = NULL, first_byte_at = NULL, late_cause = NULL
  RETURNING r.schedule_id, r.due_at)"
    };
}

/// Registers a batch by client key. Rows that come back were written; the others are unchanged.
///
/// An arming that is never equal to the one before (`now`, `delay`, a date that has passed) gets a
/// fingerprint nothing else has, so that one comparison decides for all timings.
pub const SCHEDULE_UPSERT: &str = concat!(
    "WITH ",
    clock!(),
    ",
input AS MATERIALIZED (
  SELECT i.id, i.application, i.client_group, i.client_key, i.operation, i.client_type, i.name, i.payload, i.queue,
         i.priority, i.calendar, i.arm_at, i.arm_after, i.run_id, i.history_check, i.ord,
         i.fingerprint || CASE WHEN i.unchanged = 2 OR (i.unchanged = 1 AND i.arm_at <= c.now)
                               THEN ':' || i.run_id ELSE '' END AS fingerprint
    FROM clock c CROSS JOIN unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
           $9::text[], $10::text[], $11::text[], $12::smallint[], $13::boolean[], $14::bigint[], $15::bigint[],
           $16::smallint[], $17::uuid[], $18::boolean[]) WITH ORDINALITY
         AS i (id, application, client_group, client_key, operation, client_type, name, payload, fingerprint, queue,
               priority, calendar, arm_at, arm_after, unchanged, run_id, history_check, ord)),
upserted AS (
  INSERT INTO schedules AS s (id, application, client_group, client_key, operation, client_type, name, state, revision,
                              series, iterations, fingerprint, payload, queue, priority, created_at, updated_at,
                              history_check)
  SELECT i.id, i.application, i.client_group, i.client_key, i.operation, i.client_type, i.name, 0, 1,
         CASE WHEN i.calendar THEN 0 ELSE 1 END, 0, i.fingerprint, i.payload, i.queue, i.priority, c.now, c.now,
         i.history_check
    FROM input i CROSS JOIN clock c
   ORDER BY i.application, i.client_group, i.client_key, i.operation, i.client_type
  ON CONFLICT (application, client_group, client_key, operation, client_type) WHERE state <> 3 DO UPDATE
     SET name = excluded.name, fingerprint = excluded.fingerprint, payload = excluded.payload, queue = excluded.queue,
         priority = excluded.priority, state = CASE WHEN s.state = 1 THEN 1 ELSE 0 END, revision = s.revision + 1,
         series = s.series + excluded.series, updated_at = excluded.updated_at, prune_at = NULL,
         history_check = excluded.history_check
   WHERE s.fingerprint <> excluded.fingerprint OR s.state = 2
  RETURNING s.id, s.application, s.client_group, s.client_key, s.operation, s.client_type, s.state, s.revision, s.series),
written AS (
  SELECT i.ord, i.id AS offered_id, i.run_id, i.calendar, i.arm_at, i.arm_after, i.queue, i.priority, i.name,
         i.history_check, application, client_group, client_key, operation, client_type,
         u.id, u.state, u.revision, u.series
    FROM upserted u JOIN input i USING (application, client_group, client_key, operation, client_type)),
",
    armed!(),
    ",\n",
    told!("CASE WHEN t.id = t.offered_id THEN 0 ELSE 1 END", "CASE WHEN t.state = 0 THEN t.run_id END", "written"),
    "
SELECT w.ord, w.id, w.revision, w.id = w.offered_id AS created, a.due_at
  FROM written w LEFT JOIN armed a ON a.schedule_id = w.id"
);

/// What an unchanged registration finds, by client key; `armed_missing` when its armed run is not there.
pub const SCHEDULE_FIND: &str = "\
SELECT s.id, s.revision, p.due_at,
       s.state = 0 AND p.due_at IS NULL AND NOT EXISTS (
         SELECT 1 FROM runs r WHERE r.state = 1 AND r.schedule_id = s.id AND r.armed AND r.revision = s.revision)
         AS armed_missing
  FROM schedules s LEFT JOIN runs p ON p.schedule_id = s.id AND p.state = 0 AND p.armed
 WHERE s.application = $1 AND s.client_group = $2 AND s.client_key = $3 AND s.operation = $4 AND s.client_type = $5
   AND s.state <> 3";

/// Replaces one schedule by id. No row: it is unchanged or not there.
pub const SCHEDULE_UPDATE: &str = concat!(
    "WITH ",
    clock!(),
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
         history_check = $18::boolean
    FROM input i CROSS JOIN clock c
   WHERE s.id = $2 AND s.state <> 3 AND (s.fingerprint <> i.fingerprint OR s.state = 2)
  RETURNING s.*),
written AS (
  SELECT u.id, u.state, u.revision, u.series, u.application, u.client_group, u.client_key, u.operation, u.client_type,
         u.name, u.history_check, $16::uuid AS run_id, $17::boolean AS calendar, $13::bigint AS arm_at,
         $14::bigint AS arm_after, $11::text AS queue, $12::smallint AS priority
    FROM updated u),
",
    armed!(),
    ",\n",
    told!("1", "CASE WHEN t.state = 0 THEN t.run_id END", "written"),
    "
SELECT 1::bigint AS ord, w.id, w.revision, false AS created, a.due_at
  FROM written w LEFT JOIN armed a ON a.schedule_id = w.id"
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
    armed!(),
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
    armed!(),
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
paused AS (
  UPDATE schedules s SET state = 1, revision = s.revision + 1, updated_at = c.now
    FROM clock c WHERE s.id = $2 AND s.state = 0
  RETURNING s.*),
",
    told!("5", "NULL::uuid", "paused"),
    "
SELECT count(*) FROM paused"
);

/// Adds a run that is due now and not armed. A finished schedule is kept for it.
pub const SCHEDULE_TRIGGER: &str = concat!(
    "WITH ",
    clock!(),
    ",
numbered AS (
  UPDATE schedules s SET series = s.series + 1, prune_at = CASE WHEN s.state = 2 THEN c.now + $4 ELSE s.prune_at END
    FROM clock c WHERE s.id = $2 AND s.state IN (0, 2)
  RETURNING s.*),
",
    told!("7", "$3::uuid", "numbered"),
    "
INSERT INTO runs (id, schedule_id, revision, series, nominal_at, due_at, armed, queue, priority, state, created_at)
SELECT $3, n.id, n.revision, n.series, c.now, c.now, false, n.queue, n.priority, 0, c.now
  FROM numbered n CROSS JOIN clock c
RETURNING due_at"
);

/// Deletes what matches an id ($2) or, where that is null, client fields ($3 to $7).
pub const SCHEDULE_DELETE: &str = concat!(
    "WITH ",
    clock!(),
    ",
deleted AS (
  UPDATE schedules s SET state = 3, revision = s.revision + 1, updated_at = c.now, prune_at = c.now + $8
    FROM clock c
   WHERE s.state <> 3
     AND CASE WHEN $2::uuid IS NOT NULL THEN s.id = $2
              ELSE ($3 = '' OR s.application = $3) AND ($4 = '' OR s.client_group = $4) AND ($5 = '' OR s.client_key = $5)
               AND ($6 = '' OR s.operation = $6) AND ($7 = '' OR s.client_type = $7) END
  RETURNING s.*),
",
    told!("8", "NULL::uuid", "deleted"),
    "
SELECT id FROM deleted"
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
        "SELECT s.id, s.payload, s.state, s.revision, s.iterations, s.created_at, s.updated_at,
       r.id AS run_id, r.state AS run_state, r.due_at, r.attempt, r.outcome
  FROM schedules s LEFT JOIN LATERAL (
       SELECT r.id, r.state, r.due_at, r.attempt, r.outcome FROM runs r
        WHERE r.schedule_id = s.id AND s.state IN (0, 2) AND r.armed AND r.revision = s.revision
        ORDER BY r.nominal_at DESC, r.series DESC LIMIT 1) r ON true "
    };
}

/// One schedule by id.
pub const SCHEDULE_GET: &str = concat!(schedule_select!(), "WHERE s.id = $1 AND s.state <> 3");

/// Schedules in id order.
pub const SCHEDULE_LIST: &str = concat!(
    schedule_select!(),
    "WHERE s.state = ANY($1) AND ($2 = '' OR s.application = $2) AND ($3 = '' OR s.client_group = $3)
   AND ($4 = '' OR s.client_key = $4) AND ($5 = '' OR s.operation = $5) AND ($6 = '' OR s.client_type = $6)
   AND ($7::uuid IS NULL OR s.id > $7)
 ORDER BY s.id LIMIT $8"
);

/// Claims up to `$2` runs. Cost O(batch log n + priorities in use): a loose index scan finds the
/// priorities in use, a lateral range per priority takes their due rows, neither future rows nor the
/// rest of the due ones are touched. At most half of the batch are expired leases, so that neither
/// starves the other.
pub const RUN_CLAIM: &str = concat!(
    "WITH RECURSIVE ",
    clock!(),
    ",
band AS (
  SELECT q.queue, (SELECT r.priority FROM runs r WHERE r.state = 0 AND r.queue = q.queue ORDER BY r.priority DESC LIMIT 1)
         AS priority
    FROM unnest($5::text[]) AS q (queue)
  UNION ALL
  SELECT b.queue, (SELECT r.priority FROM runs r WHERE r.state = 0 AND r.queue = b.queue AND r.priority < b.priority
                    ORDER BY r.priority DESC LIMIT 1)
    FROM band b WHERE b.priority IS NOT NULL),
expired AS MATERIALIZED (
  SELECT r.id FROM runs r
   WHERE r.state = 1 AND r.lease_until <= (SELECT now FROM clock) AND r.queue = ANY($5)
   ORDER BY r.lease_until, r.id LIMIT greatest(1, $2 / 2) FOR UPDATE SKIP LOCKED),
ready AS MATERIALIZED (
  SELECT c.id
    FROM (SELECT queue, priority FROM band WHERE priority IS NOT NULL ORDER BY priority DESC) b
   CROSS JOIN LATERAL (
         SELECT r.id FROM runs r
          WHERE r.state = 0 AND r.queue = b.queue AND r.priority = b.priority AND r.due_at <= (SELECT now FROM clock)
          ORDER BY r.due_at, r.id LIMIT $2 FOR UPDATE SKIP LOCKED) c
   LIMIT $2 - (SELECT count(*) FROM expired)),
taken AS (
  UPDATE runs u
     SET state = 1, attempt = u.attempt + 1, crashes = u.crashes + x.expired, lease_token = u.lease_token + 1,
         lease_owner = $3, claimed_at = (SELECT now FROM clock), lease_until = (SELECT now FROM clock) + $4
    FROM (SELECT id, 0 AS expired FROM ready UNION ALL SELECT id, 1 FROM expired) x
   WHERE u.id = x.id
  RETURNING u.id, u.schedule_id, u.revision, u.series, u.nominal_at, u.due_at, u.created_at, u.armed, u.priority, u.attempt, u.crashes,
            u.lease_token, x.expired = 1 AS reclaimed)
SELECT c.now,
       (SELECT r.due_at FROM runs r WHERE r.state = 0 AND r.due_at > (SELECT now FROM clock) ORDER BY r.due_at LIMIT 1)
         AS next_at,
       t.id, t.schedule_id, t.revision, t.series, t.nominal_at, t.due_at, coalesce(t.created_at, t.nominal_at) AS created_at,
       t.armed, t.priority, t.attempt, t.crashes, t.lease_token, t.reclaimed, s.state AS schedule_state, s.revision AS schedule_revision, s.payload
  FROM clock c LEFT JOIN taken t ON true LEFT JOIN schedules s ON s.id = t.schedule_id"
);

/// The one exit. `exit`: 0 finish, 1 retry, 2 hand back, 3 postpone. Locks the runs in id order, then their
/// schedules in id order (the order register and delete follow too: schedule, then pending run), so that
/// what it decides by is the newest committed revision and two settlers cannot deadlock.
pub const RUN_SETTLE: &str = concat!(
    "WITH ",
    clock!(),
    ",
input AS MATERIALIZED (
  SELECT * FROM unnest($3::uuid[], $4::bigint[], $5::smallint[], $6::smallint[], $7::bigint[], $8::text[], $9::integer[],
           $10::text[], $11::bigint[], $12::bigint[], $13::integer[], $14::integer[], $15::uuid[], $16::integer[],
           $17::bigint[], $18::bigint[], $19::text[], $20::bigint[], $21::bigint[], $22::text[], $24::boolean[]) WITH ORDINALITY
         AS i (run_id, token, exit, state, wait_ms, outcome, http_status, detail, next_at, next_after, coalesced, skipped,
               next_id, attempt, started_at, ended_at, worker, woken_at, first_byte_at, late_cause, pauses, ord)),
held AS MATERIALIZED (
  SELECT r.id, r.schedule_id, r.revision, r.series, r.nominal_at, r.due_at, r.armed, r.queue, r.priority, r.attempt,
         r.lease_owner, i.ord
    FROM runs r JOIN input i ON r.id = i.run_id
   WHERE r.state = 1 AND r.lease_token = i.token
   ORDER BY r.id FOR UPDATE OF r),
owner AS MATERIALIZED (
  SELECT s.id, s.state, s.revision, s.history_check, s.application, s.client_group, s.client_key, s.operation,
         s.client_type, s.name
    FROM schedules s
   WHERE s.id IN (SELECT schedule_id FROM held) ORDER BY s.id FOR UPDATE),
paused AS MATERIALIZED (
  SELECT DISTINCT h.schedule_id FROM held h JOIN input i ON i.ord = h.ord JOIN owner o ON o.id = h.schedule_id
   WHERE i.pauses AND o.state = 0 AND o.revision = h.revision),
-- What is armed of a schedule that this pauses goes, as when its owner pauses it, and nothing of the batch arms it again.
disarmed AS (
  DELETE FROM runs r USING paused p WHERE r.schedule_id = p.schedule_id AND r.state = 0 AND r.armed),
decided AS MATERIALIZED (
  SELECT h.id, h.schedule_id, h.revision, h.series, h.nominal_at, h.due_at, h.armed, h.queue, h.priority, d.live, c.now,
         p.schedule_id IS NOT NULL AS paused, h.attempt AS attempts, h.lease_owner,
         CASE WHEN i.exit = 0 THEN i.state WHEN d.live THEN 0 WHEN i.exit = 1 THEN 3 ELSE 5 END AS to_state,
         CASE WHEN i.exit = 0 OR d.live AND i.exit IN (1, 3) THEN i.outcome WHEN d.live THEN NULL ELSE 'replaced' END AS to_outcome,
         i.exit, i.token, i.wait_ms, i.http_status, i.detail, i.outcome, i.next_at, i.next_after, i.coalesced, i.skipped,
         i.next_id, i.attempt, i.started_at, i.ended_at, i.worker, i.woken_at, i.first_byte_at, i.late_cause, i.ord,
         -- dead letters have a retention of their own, and so has what is read with them
         c.now + CASE WHEN i.exit = 0 AND i.state = 4 THEN $23 ELSE $2 END AS prune_at
    FROM held h JOIN input i ON i.ord = h.ord LEFT JOIN owner o ON o.id = h.schedule_id
    LEFT JOIN paused p ON p.schedule_id = h.schedule_id CROSS JOIN clock c
   CROSS JOIN LATERAL (SELECT coalesce(o.state = 0 AND o.revision = h.revision AND p.schedule_id IS NULL, false)
                           OR coalesce(NOT h.armed AND o.state = 2 AND o.revision = h.revision, false) AS live) d),
settled AS (
  UPDATE runs r
     SET state = d.to_state, lease_until = NULL,
         due_at = CASE WHEN d.to_state = 0 THEN d.now + d.wait_ms ELSE r.due_at END,
         attempt = r.attempt - CASE WHEN d.exit IN (2, 3) THEN 1 ELSE 0 END,
         finished_at = CASE WHEN d.to_state = 0 THEN NULL ELSE d.now END,
         prune_at = CASE WHEN d.to_state = 0 THEN NULL ELSE d.prune_at END,
         outcome = CASE WHEN d.exit = 2 AND d.to_state = 0 THEN r.outcome ELSE d.to_outcome END,
         http_status = CASE WHEN d.exit = 2 AND d.to_state = 0 THEN r.http_status ELSE d.http_status END,
         detail = CASE WHEN d.exit = 2 AND d.to_state = 0 THEN r.detail ELSE d.detail END,
         coalesced = r.coalesced + d.coalesced, skipped = r.skipped + d.skipped,
         woken_at = d.woken_at, dispatched_at = d.started_at, first_byte_at = d.first_byte_at,
         late_cause = coalesce(d.late_cause, r.late_cause)
    FROM decided d WHERE r.id = d.id),
armed AS (
  INSERT INTO runs (id, schedule_id, revision, series, nominal_at, due_at, armed, queue, priority, state, created_at)
  SELECT d.next_id, d.schedule_id, d.revision, d.series, n.at, n.at, true, d.queue, d.priority, 0, d.now
    FROM decided d
   -- Differs: greatest() skips nulls where SQLite's max() is null: without a successor it would make one up.
   CROSS JOIN LATERAL (SELECT coalesce(d.next_at, CASE WHEN d.next_after IS NOT NULL
                              THEN greatest(d.now + d.next_after, d.nominal_at + 1) END) AS at) n
   WHERE d.exit = 0 AND d.armed AND d.live AND n.at IS NOT NULL
  ON CONFLICT DO NOTHING
  RETURNING due_at),
counted AS (
  UPDATE schedules s
     SET iterations = s.iterations + d.succeeded,
         state = CASE WHEN d.paused THEN 1 WHEN d.finished THEN 2 ELSE s.state END,
         revision = s.revision + CASE WHEN d.paused THEN 1 ELSE 0 END,
         updated_at = CASE WHEN d.paused THEN d.now ELSE s.updated_at END,
         prune_at = CASE WHEN d.finished THEN d.prune_at ELSE s.prune_at END
    FROM (SELECT schedule_id, now, paused, max(prune_at) AS prune_at, count(*) FILTER (WHERE to_state = 2) AS succeeded,
                 bool_or(exit = 0 AND armed AND live AND next_at IS NULL AND next_after IS NULL) AS finished
            FROM decided GROUP BY schedule_id, now, paused) d
   WHERE s.id = d.schedule_id AND (d.succeeded > 0 OR d.finished OR d.paused)),
kept AS (
  INSERT INTO attempts (run_id, lease_token, attempt, worker, started_at, ended_at, outcome, http_status, detail, prune_at)
  SELECT d.id, d.token, d.attempt, d.worker, d.started_at, d.ended_at, d.outcome, d.http_status, d.detail, d.prune_at
    FROM decided d WHERE d.attempt IS NOT NULL AND d.outcome <> 'ok'
  ON CONFLICT DO NOTHING),
kept_longer AS (
  UPDATE attempts a SET prune_at = d.prune_at FROM decided d WHERE d.to_state = 4 AND a.run_id = d.id),
told AS (
  INSERT INTO history (at, kind, schedule_id, run_id, application, client_group, client_key, operation, client_type, name,
                       revision, attempt, outcome, state, http_status, lag_ms, duration_ms, late_cause, detail, worker)
  SELECT d.now, CASE WHEN d.attempt IS NULL THEN 4 WHEN d.attempt > 1 THEN 3 ELSE 2 END, d.schedule_id, d.id,
         o.application, o.client_group, o.client_key, o.operation, o.client_type, o.name, d.revision, d.attempts,
         CASE WHEN d.attempt IS NULL THEN d.to_outcome ELSE d.outcome END, d.to_state, d.http_status,
         CASE WHEN d.attempt IS NOT NULL THEN greatest(d.started_at - d.due_at, 0) END, d.ended_at - d.started_at,
         d.late_cause, d.detail, d.lease_owner
    FROM decided d JOIN owner o ON o.id = d.schedule_id
   -- without an attempt: only what ended
   WHERE o.history_check AND (d.attempt IS NOT NULL OR d.to_state <> 0))
SELECT c.now, (SELECT min(due_at) FROM armed) AS armed_at, d.to_state, d.now + d.wait_ms AS retry_at,
       -- not held: our own earlier copy if the row still carries our token and has left `running`
       CASE WHEN d.id IS NULL AND r.lease_token = i.token AND r.state <> 1 THEN r.state END AS before_state
  FROM clock c CROSS JOIN input i LEFT JOIN decided d ON d.ord = i.ord LEFT JOIN runs r ON r.id = i.run_id
 ORDER BY i.ord"
);

/// Prolongs leases that are still held.
pub const RUN_RENEW: &str = concat!(
    "WITH ",
    clock!(),
    ",
input AS MATERIALIZED (SELECT * FROM unnest($2::uuid[], $3::bigint[]) WITH ORDINALITY AS i (run_id, token, ord)),
renewed AS (
  UPDATE runs r SET lease_until = c.now + $4
    FROM input i CROSS JOIN clock c
   WHERE r.id = i.run_id AND r.lease_token = i.token AND r.state = 1
  RETURNING i.ord)
SELECT n.ord IS NOT NULL FROM input i LEFT JOIN renewed n ON n.ord = i.ord ORDER BY i.ord"
);

/// Stored definitions in id order, after `$1`.
pub const SCHEDULE_PAYLOADS: &str = "\
SELECT id, revision, payload, fingerprint FROM schedules
 WHERE id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000') ORDER BY id LIMIT $2";

/// The same definitions, sealed anew, unless the schedule moved on.
pub const SCHEDULE_RESEAL: &str = "\
UPDATE schedules s SET payload = i.payload, fingerprint = i.fingerprint
  FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS i (id, revision, payload, fingerprint)
 WHERE s.id = i.id AND s.revision = i.revision";

/// What the monitor needs to know, without the FROM that ends it.
macro_rules! wake_select {
    () => {
        concat!(
            "WITH ",
            clock!(),
            "
SELECT c.now,
       (SELECT due_at FROM runs WHERE state = 0 ORDER BY due_at LIMIT 1) AS next_due,
       (SELECT due_at FROM runs WHERE state = 0 AND due_at > c.now ORDER BY due_at LIMIT 1) AS next_ahead,
       (SELECT lease_until FROM runs WHERE state = 1 ORDER BY lease_until LIMIT 1) AS next_lease,
       least((SELECT prune_at FROM runs WHERE prune_at IS NOT NULL ORDER BY prune_at LIMIT 1),
             (SELECT prune_at FROM schedules WHERE prune_at IS NOT NULL ORDER BY prune_at LIMIT 1),
             (SELECT prune_at FROM attempts ORDER BY prune_at LIMIT 1),
             (SELECT at FROM history ORDER BY at LIMIT 1) + $2) AS next_prune,
       (SELECT count(*) FROM (SELECT 1 FROM runs WHERE state = 0 AND due_at <= c.now LIMIT 10000) o) AS overdue"
        )
    };
}

/// All the monitor needs to know.
pub const WAKE_READ: &str = concat!(wake_select!(), "\n  FROM clock c");

/// The same, and how much is running and coming.
pub const WAKE_FORECAST: &str = concat!(
    wake_select!(),
    ",
       (SELECT count(*) FROM (SELECT 1 FROM runs WHERE state = 1 LIMIT 10000) o) AS running,
       (SELECT count(*) FROM (SELECT 1 FROM runs WHERE state = 0 AND due_at > c.now AND due_at <= c.now + 60000
                               LIMIT 10000) o) AS next_minute,
       (SELECT count(*) FROM (SELECT 1 FROM runs WHERE state = 0 AND due_at > c.now AND due_at <= c.now + 300000
                               LIMIT 10000) o) AS next_five_minutes
  FROM clock c"
);

/// Deletes a batch of what is finished and old. A finished schedule whose triggered runs are still open has to
/// stay, or they would be cancelled for want of it; it is looked at again after `$4`.
pub const PRUNE: &str = concat!(
    "WITH ",
    clock!(),
    ",
old_runs AS (
  DELETE FROM runs WHERE id IN (
    SELECT r.id FROM runs r WHERE r.prune_at <= (SELECT now FROM clock) ORDER BY r.prune_at LIMIT $2 FOR UPDATE SKIP LOCKED)
  RETURNING 1),
old AS MATERIALIZED (
  SELECT s.id, s.state = 2 AND EXISTS (
           SELECT 1 FROM runs r WHERE r.schedule_id = s.id AND r.state IN (0, 1)) AS is_needed
    FROM schedules s WHERE s.prune_at <= (SELECT now FROM clock) ORDER BY s.prune_at LIMIT $2 FOR UPDATE OF s SKIP LOCKED),
kept_schedules AS (
  UPDATE schedules s SET prune_at = (SELECT now FROM clock) + $4 FROM old WHERE s.id = old.id AND old.is_needed),
old_schedules AS (
  DELETE FROM schedules s USING old WHERE s.id = old.id AND NOT old.is_needed
  RETURNING 1),
old_attempts AS (
  DELETE FROM attempts WHERE (run_id, lease_token) IN (
    SELECT a.run_id, a.lease_token FROM attempts a WHERE a.prune_at <= (SELECT now FROM clock) ORDER BY a.prune_at LIMIT $2
       FOR UPDATE SKIP LOCKED)
  RETURNING 1),
old_history AS (
  DELETE FROM history WHERE id IN (
    SELECT h.id FROM history h WHERE h.at <= (SELECT now FROM clock) - $3 ORDER BY h.at LIMIT $2 FOR UPDATE SKIP LOCKED)
  RETURNING 1)
SELECT (SELECT count(*) FROM old_runs) + (SELECT count(*) FROM old_schedules) + (SELECT count(*) FROM old_attempts)
     + (SELECT count(*) FROM old_history)"
);

/// The database's now.
pub const NOW: &str = concat!("WITH ", clock!(), " SELECT now FROM clock");

/// The latest calendar instant that a run has taken among these client keys' schedules, for
/// [`super::StoreError::OccurrenceTaken`]. Not the pending one: it is replaced.
pub const LATEST_BY_CLIENT: &str = "\
SELECT max(r.nominal_at) FROM schedules s JOIN runs r ON r.schedule_id = s.id AND r.series = 0 AND r.state <> 0
  JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
       AS i (application, client_group, client_key, operation, client_type)
 USING (application, client_group, client_key, operation, client_type)
 WHERE s.state <> 3";

/// The statement that reads a page of the history, whose filters decide its text.
pub fn history_list(filter: &HistoryFilter, page: &HistoryPage) -> String {
    history_select::<sqlx::Postgres>(filter, page).sql().as_str().to_owned()
}
