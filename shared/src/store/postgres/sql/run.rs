//! The statements about runs: claim, settle, renew. Those that read are the same on both databases.

/// Claims runs that are due or whose lease is over.
///
/// `$1` now, `$2` how many at most, `$3` who claims, `$4` the lease in ms, `$5` the queues.
///
/// 1. `band`: the priorities in use, from one to the next lower (a loose index scan).
/// 2. `expired`: runs whose lease is over, half of the batch at most, so that neither starves the other.
/// 3. `ready`: what is due, highest priority first, oldest first within it; a range of the index per priority, so neither
///    future rows nor the rest of the due ones are touched. Cost O(batch log n + priorities in use).
/// 4. `taken`: the write, with the next token.
///
/// Locks: the rows it takes, no schedule. No race: `SKIP LOCKED` leaves out what another claim, a settle or a change of
/// the schedule holds, and a row that was locked is judged once more as it is by then, so two claims never take one run.
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
            u.lease_token, u.late_cause, x.expired = 1 AS reclaimed)
SELECT c.now,
       (SELECT r.due_at FROM runs r WHERE r.state = 0 AND r.due_at > (SELECT now FROM clock) ORDER BY r.due_at LIMIT 1)
         AS next_at,
       t.id, t.schedule_id, t.revision, t.series, t.nominal_at, t.due_at, coalesce(t.created_at, t.nominal_at) AS created_at,
       t.armed, t.priority, t.attempt, t.crashes, t.lease_token, t.late_cause, t.reclaimed, s.state AS schedule_state, s.revision AS schedule_revision, s.payload
  FROM clock c LEFT JOIN taken t ON true LEFT JOIN schedules s ON s.id = t.schedule_id"
);

/// The statement of [`RUN_SETTLE`]. `$runs` may lock the runs before they are written.
macro_rules! run_settle {
    ($runs:literal) => {
        concat!(
    "WITH ",
    clock!(),
    ",
found AS MATERIALIZED (
  SELECT i.*, r.schedule_id, r.revision, r.series, r.nominal_at, r.due_at, r.armed, r.queue, r.priority,
         r.attempt AS attempts, r.lease_owner
    FROM unnest($3::uuid[], $4::bigint[], $5::smallint[], $6::smallint[], $7::bigint[], $8::text[], $9::integer[],
           $10::text[], $11::bigint[], $12::bigint[], $13::integer[], $14::integer[], $15::uuid[], $16::integer[],
           $17::bigint[], $18::bigint[], $19::text[], $20::bigint[], $21::bigint[], $22::text[], $24::boolean[]) WITH ORDINALITY
         AS i (run_id, token, exit, state, wait_ms, outcome, http_status, detail, next_at, next_after, coalesced, skipped,
               next_id, attempt, started_at, ended_at, worker, woken_at, first_byte_at, late_cause, pauses, ord)
   -- `lease_until` and not `state`: a condition on that would offer the planner the index of all running runs
    JOIN runs r ON r.id = i.run_id AND r.lease_token = i.token AND r.lease_until IS NOT NULL
   ORDER BY r.schedule_id),
owned AS MATERIALIZED (
  SELECT f.*, o.once, o.history_check, o.state AS owner_state, o.revision = f.revision AS is_current,
         -- a target that is gone pauses what recurs: nothing else of the batch arms that again
         bool_or(f.pauses AND o.state = 0 AND NOT o.once AND o.revision = f.revision) OVER (PARTITION BY f.schedule_id) AS paused
    FROM found f LEFT JOIN LATERAL (
         SELECT s.state, s.revision, s.once, s.history_check FROM schedules s WHERE s.id = f.schedule_id FOR UPDATE SKIP LOCKED) o
         ON true
   -- not there at all is one thing, held by somebody else another
   WHERE o.state IS NOT NULL OR NOT EXISTS (SELECT 1 FROM schedules s WHERE s.id = f.schedule_id)),
decided AS MATERIALIZED (
  SELECT o.*, l.live, c.now, e.ends AND NOT o.once AS ends, e.ends AND o.once AS is_over,
         CASE WHEN o.exit = 0 THEN o.state WHEN l.live THEN 0 WHEN o.exit = 1 THEN 3 ELSE 5 END AS to_state,
         CASE WHEN o.exit = 0 OR l.live AND o.exit IN (1, 3) THEN o.outcome WHEN l.live THEN NULL ELSE 'replaced' END
           AS to_outcome,
         -- dead letters have a retention of their own, and so has what is read with them
         c.now + CASE WHEN o.exit = 0 AND o.state = 4 THEN $23::bigint ELSE $2::bigint END AS prune_at
    FROM clock c CROSS JOIN owned o
    -- a triggered run may outlive a schedule that is over
   CROSS JOIN LATERAL (SELECT coalesce(o.is_current AND (o.owner_state = 0 AND NOT o.paused
                                                         OR o.owner_state = 2 AND NOT o.armed), false) AS live) l
   CROSS JOIN LATERAL (SELECT o.exit = 0 AND o.armed AND l.live AND o.next_at IS NULL AND o.next_after IS NULL AS ends) e
",
            $runs,
            "   ORDER BY o.run_id),
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
    FROM decided d WHERE r.id = d.run_id AND r.lease_token = d.token AND r.lease_until IS NOT NULL
  RETURNING d.*),
-- What is armed of a schedule that this pauses goes, as when its owner pauses it.
disarmed AS (
  DELETE FROM runs r USING (SELECT DISTINCT d.schedule_id FROM settled d WHERE d.paused) p
   WHERE r.schedule_id = p.schedule_id AND r.state = 0 AND r.armed),
armed AS (
  INSERT INTO runs (id, schedule_id, revision, series, nominal_at, due_at, armed, queue, priority, state, created_at,
                    zone_rules, zone_newest)
  SELECT d.next_id, d.schedule_id, d.revision, d.series, n.at, n.at, true, d.queue, d.priority, 0, d.now,
         CASE WHEN d.next_at IS NOT NULL THEN $25::integer END,
         d.next_at IS NULL OR $25::integer >= (SELECT z.version FROM zone_rules z)
    FROM settled d
   -- Differs: greatest() skips nulls where SQLite's max() is null: without a successor it would make one up.
   CROSS JOIN LATERAL (SELECT coalesce(d.next_at, CASE WHEN d.next_after IS NOT NULL
                              THEN greatest(d.now + d.next_after, d.nominal_at + 1) END) AS at) n
   WHERE d.exit = 0 AND d.armed AND d.live AND n.at IS NOT NULL
  ON CONFLICT DO NOTHING
  RETURNING due_at),
counted AS (
  UPDATE schedules s
     SET iterations = s.iterations + d.succeeded,
         state = CASE WHEN d.paused THEN 1 WHEN d.ends THEN 2 ELSE s.state END,
         revision = s.revision + CASE WHEN d.paused THEN 1 ELSE 0 END,
         updated_at = CASE WHEN d.paused THEN d.now ELSE s.updated_at END,
         prune_at = CASE WHEN d.ends THEN d.prune_at ELSE s.prune_at END
    FROM (SELECT d.schedule_id, d.now, bool_or(d.paused) AS paused, bool_or(d.ends) AS ends, max(d.prune_at) AS prune_at,
                 count(*) FILTER (WHERE d.to_state = 2) AS succeeded
            FROM settled d WHERE (d.to_state = 2 OR d.ends OR d.paused) AND NOT d.is_over
           GROUP BY d.schedule_id, d.now) d
   WHERE s.id = d.schedule_id),
kept AS (
  INSERT INTO attempts (run_id, lease_token, attempt, worker, started_at, ended_at, outcome, http_status, detail, prune_at)
  SELECT d.run_id, d.token, d.attempt, d.worker, d.started_at, d.ended_at, d.outcome, d.http_status, d.detail, d.prune_at
    FROM settled d WHERE d.attempt IS NOT NULL AND d.outcome <> 'ok'
  ON CONFLICT DO NOTHING),
kept_longer AS (
  UPDATE attempts a SET prune_at = d.prune_at FROM settled d WHERE d.to_state = 4 AND a.run_id = d.run_id),
told AS (
  INSERT INTO history (at, kind, schedule_id, run_id, application, client_group, client_key, operation, client_type, name,
                       revision, attempt, outcome, state, http_status, lag_ms, duration_ms, late_cause, detail, worker)
  SELECT d.now, CASE WHEN d.attempt IS NULL THEN 4 WHEN d.attempt > 1 THEN 3 ELSE 2 END, d.schedule_id, d.run_id,
         s.application, s.client_group, s.client_key, s.operation, s.client_type, s.name, d.revision, d.attempts,
         CASE WHEN d.attempt IS NULL THEN d.to_outcome ELSE d.outcome END, d.to_state, d.http_status,
         CASE WHEN d.attempt IS NOT NULL THEN greatest(d.started_at - d.due_at, 0) END, d.ended_at - d.started_at,
         d.late_cause, d.detail, d.lease_owner
    FROM settled d JOIN schedules s ON s.id = d.schedule_id
   -- without an attempt: only what ended
   WHERE d.history_check AND (d.attempt IS NOT NULL OR d.to_state <> 0)),
told_paused AS (
  INSERT INTO history (at, kind, schedule_id, application, client_group, client_key, operation, client_type, name, revision)
  SELECT p.now, 5, s.id, s.application, s.client_group, s.client_key, s.operation, s.client_type, s.name, p.revision + 1
    FROM (SELECT d.schedule_id, d.now, max(d.revision) AS revision
            FROM settled d WHERE d.paused AND d.history_check GROUP BY d.schedule_id, d.now) p
    JOIN schedules s ON s.id = p.schedule_id)
SELECT c.now, (SELECT min(due_at) FROM armed) AS armed_at, d.ord, d.to_state, d.now + d.wait_ms AS retry_at
  FROM clock c LEFT JOIN settled d ON true"
        )
    };
}

/// The one exit. Answers the runs that were settled, by their place in the batch.
///
/// `$1` now, `$2` retention in ms, `$23` that of dead letters. The rest are columns of the batch, named in `found` in the
/// order of their numbers, `$24` (pauses) after them; `$25` is the version of the rules of time zones. `exit`: 0 finish, 1 retry, 2 hand back, 3 postpone; `next_at` and
/// `next_after` say when the successor is due, of which at most one is given.
///
/// 1. `found`: the runs as they are, each by its id, while the token holds. Nothing is locked yet: which schedule a
///    run belongs to never changes.
/// 2. `owned`: their schedules, locked in id order, so that what follows is decided by their newest committed
///    revision. Register, delete and pause lock in the same order: the schedule, then its pending run. Of a schedule
///    that somebody else holds nothing is settled: the others do not wait for it.
/// 3. `decided`: what each comes to, in run id order, in which renewals write too.
/// 4. `settled`: the write, fenced by the token once more: what another claim took meanwhile is left out, and out of
///    all that follows from here.
///
/// No race: what is read before the schedule's lock is only which schedule a run has; a run that another claim took, or
/// that was settled before, has another token or no lease, and matches neither `found` nor `settled`. No deadlock:
/// everybody locks schedules before runs, and each in id order.
///
/// A one-shot that ends leaves its schedule alone: that it is over, and how, is read from this very run.
pub const RUN_SETTLE: &str = run_settle!("");

/// The same, leaving out runs whose rows somebody else holds. Locking a row is a write, so only where that was seen.
pub const RUN_SETTLE_FREE: &str = run_settle!(
    "   CROSS JOIN LATERAL (SELECT 1 FROM runs r WHERE r.id = o.run_id AND r.lease_token = o.token FOR UPDATE SKIP LOCKED) k
"
);

/// Which of these runs had been settled before under the same tokens: they have left `running` and nobody claimed them
/// since; and which are still as they were, because somebody holds their row or their schedule's. Asked for what
/// [`RUN_SETTLE`] did not settle: what is not answered was lost to another claim.
pub const RUN_SETTLED: &str = "\
SELECT i.ord, r.state, r.lease_until IS NOT NULL AS is_held
  FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS i (run_id, token, ord)
  JOIN runs r ON r.id = i.run_id AND r.lease_token = i.token";

/// Prolongs leases that are still held, in run id order, in which settles write too: `$2` runs, `$3` their tokens, `$4` the
/// lease in ms. Answers the places in the batch of
/// leases that are held, and whether they were prolonged: not while somebody else holds the row.
pub const RUN_RENEW: &str = concat!(
    "WITH ",
    clock!(),
    ",
held AS MATERIALIZED (
  SELECT i.ord, i.run_id, k.id IS NOT NULL AS is_free
    FROM (SELECT i.* FROM unnest($2::uuid[], $3::bigint[]) WITH ORDINALITY AS i (run_id, token, ord) ORDER BY i.run_id) i
    JOIN runs r ON r.id = i.run_id AND r.lease_token = i.token AND r.lease_until IS NOT NULL
    LEFT JOIN LATERAL (
         SELECT r.id FROM runs r WHERE r.id = i.run_id AND r.lease_token = i.token AND r.lease_until IS NOT NULL
            FOR UPDATE SKIP LOCKED) k ON true),
renewed AS (
  UPDATE runs r SET lease_until = c.now + $4
    FROM clock c CROSS JOIN held h WHERE r.id = h.run_id AND h.is_free)
SELECT h.ord, h.is_free FROM held h"
);
