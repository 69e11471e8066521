//! The statements of the monitor: what is next, what is old.

use crate::store::sql::zone_standing;

/// What the monitor needs to know, without the FROM that ends it. What is overdue is looked for only when something
/// is, and counted in the order of its index: counted in any order, the table is read as soon as the statistics say
/// that much of it may match.
macro_rules! wake_select {
    () => {
        concat!(
            "WITH ",
            clock!(),
            ",
least AS MATERIALIZED (SELECT (SELECT r.due_at FROM runs r WHERE r.state = 0 ORDER BY r.due_at LIMIT 1) AS due_at)
SELECT c.now, l.due_at AS next_due,
       CASE WHEN l.due_at > c.now THEN l.due_at
            ELSE (SELECT r.due_at FROM runs r WHERE r.state = 0 AND r.due_at > c.now ORDER BY r.due_at LIMIT 1)
       END AS next_ahead,
       (SELECT r.lease_until FROM runs r WHERE r.state = 1 ORDER BY r.lease_until LIMIT 1) AS next_lease,
       CASE WHEN l.due_at > c.now THEN 0
            ELSE (SELECT count(*) FROM (SELECT 1 FROM runs r WHERE r.state = 0 AND r.due_at <= c.now
                                         ORDER BY r.due_at LIMIT 10000) o)
       END AS overdue"
        )
    };
}

/// All the monitor needs to know.
pub const WAKE_READ: &str = concat!(wake_select!(), "\n  FROM clock c CROSS JOIN least l");

/// The same, how much is running and coming, and when something is old.
pub const WAKE_FORECAST: &str = concat!(
    wake_select!(),
    ",
       least((SELECT r.prune_at FROM runs r WHERE r.prune_at IS NOT NULL ORDER BY r.prune_at LIMIT 1),
             (SELECT s.prune_at FROM schedules s WHERE s.prune_at IS NOT NULL ORDER BY s.prune_at LIMIT 1),
             (SELECT a.prune_at FROM attempts a ORDER BY a.prune_at LIMIT 1),
             (SELECT h.at FROM history h ORDER BY h.at LIMIT 1) + $2) AS next_prune,
       (SELECT count(*) FROM (SELECT 1 FROM runs r WHERE r.state = 1 ORDER BY r.lease_until LIMIT 10000) o) AS running,
       (SELECT count(*) FROM (SELECT 1 FROM runs r WHERE r.state = 0 AND r.due_at > c.now AND r.due_at <= c.now + 60000
                               ORDER BY r.due_at LIMIT 10000) o) AS next_minute,
       (SELECT count(*) FROM (SELECT 1 FROM runs r WHERE r.state = 0 AND r.due_at > c.now AND r.due_at <= c.now + 300000
                               ORDER BY r.due_at LIMIT 10000) o) AS next_five_minutes,
       ",
    zone_standing!(),
    "
  FROM clock c CROSS JOIN least l"
);

/// Deletes a batch of what is finished and old. With the run that says how a one-shot ended goes its schedule. A
/// schedule that is over and whose triggered runs are still open has to stay, or they would be cancelled for want of
/// it: its own row says from then on that it is over, and it is looked at again after `$4`.
pub const PRUNE: &str = concat!(
    "WITH ",
    clock!(),
    ",
old_runs AS (
  DELETE FROM runs WHERE id = ANY (ARRAY(
    SELECT r.id FROM runs r WHERE r.prune_at <= (SELECT now FROM clock) ORDER BY r.prune_at LIMIT $2 FOR UPDATE SKIP LOCKED))
  RETURNING schedule_id, revision, armed, state),
-- Locked, hence as they are now: one that was triggered or registered anew meanwhile is not among them.
over AS MATERIALIZED (
  SELECT s.id, o.state = 2 AS succeeded, EXISTS (
           SELECT 1 FROM runs r WHERE r.schedule_id = s.id AND r.state IN (0, 1)) AS is_needed
    FROM old_runs o JOIN schedules s ON s.id = o.schedule_id AND s.revision = o.revision
   WHERE o.armed AND s.once AND s.state = 0
     -- once registered as a one-shot, and by an older version as something that recurs
     AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.schedule_id = s.id AND r.armed AND r.revision = s.revision AND r.state IN (0, 1))
     FOR UPDATE OF s),
old AS MATERIALIZED (
  SELECT s.id, s.state = 2 AND EXISTS (
           SELECT 1 FROM runs r WHERE r.schedule_id = s.id AND r.state IN (0, 1)) AS is_needed
    FROM schedules s WHERE s.prune_at <= (SELECT now FROM clock) ORDER BY s.prune_at LIMIT $2 FOR UPDATE OF s SKIP LOCKED),
kept_schedules AS (
  UPDATE schedules s
     SET prune_at = (SELECT now FROM clock) + $4, state = 2, iterations = s.iterations + CASE WHEN n.succeeded THEN 1 ELSE 0 END
    FROM (SELECT id, false AS succeeded FROM old WHERE is_needed
           UNION ALL SELECT id, succeeded FROM over WHERE is_needed) n
   WHERE s.id = n.id),
old_schedules AS (
  DELETE FROM schedules s
   USING (SELECT id FROM old WHERE NOT is_needed UNION ALL SELECT id FROM over WHERE NOT is_needed) n
   WHERE s.id = n.id
  RETURNING 1),
old_attempts AS (
  DELETE FROM attempts WHERE (run_id, lease_token) IN (
    SELECT a.run_id, a.lease_token FROM attempts a WHERE a.prune_at <= (SELECT now FROM clock) ORDER BY a.prune_at LIMIT $2
       FOR UPDATE SKIP LOCKED)
  RETURNING 1),
old_history AS (
  DELETE FROM history WHERE id = ANY (ARRAY(
    SELECT h.id FROM history h WHERE h.at <= (SELECT now FROM clock) - $3 ORDER BY h.at LIMIT $2 FOR UPDATE SKIP LOCKED))
  RETURNING 1)
SELECT (SELECT count(*) FROM old_runs) + (SELECT count(*) FROM old_schedules) + (SELECT count(*) FROM old_attempts)
     + (SELECT count(*) FROM old_history)"
);

/// Writes a row as it is: whether writing is possible.
pub const PROBE: &str = "UPDATE epochs SET epoch = epoch";

/// The database's now.
pub const NOW: &str = concat!("WITH ", clock!(), " SELECT now FROM clock");
