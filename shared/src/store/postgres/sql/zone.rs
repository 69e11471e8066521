//! The statements about the rules of time zones that differ from SQLite's.

/// Moves the armed run `$4` of schedule `$2` in revision `$3`, which was never tried, to `$5`, by the rules `$6`; `$7` is for
/// the history. Locks the schedule, then the run, as every arming does. Not where a run of that instant is there already.
pub const ZONE_MOVE: &str = concat!(
    "WITH ",
    clock!(),
    ",
locked AS MATERIALIZED (SELECT s.* FROM schedules s WHERE s.id = $2 AND s.revision = $3 AND s.state = 0 FOR UPDATE),
moved AS (
  UPDATE runs r
     SET nominal_at = $5, due_at = greatest($5, c.now), created_at = c.now, zone_rules = $6,
         zone_newest = $6 >= (SELECT z.version FROM zone_rules z)
    FROM locked l CROSS JOIN clock c
   WHERE r.id = $4 AND r.schedule_id = l.id AND r.state = 0 AND r.armed AND r.attempt = 0
     AND NOT EXISTS (SELECT 1 FROM runs o WHERE o.schedule_id = l.id AND o.nominal_at = $5 AND o.series = r.series)
  RETURNING r.id, r.due_at),
told AS (
  INSERT INTO history (at, kind, schedule_id, run_id, application, client_group, client_key, operation, client_type, name,
                       revision, detail)
  SELECT c.now, 9, l.id, m.id, l.application, l.client_group, l.client_key, l.operation, l.client_type, l.name, l.revision,
         $7
    FROM locked l CROSS JOIN moved m CROSS JOIN clock c WHERE l.history_check)
SELECT m.due_at FROM moved m"
);

/// The runs `$1` are where they belong by the rules `$2`.
pub const ZONE_SURE: &str = "UPDATE runs SET zone_rules = $2, zone_newest = true WHERE id = ANY($1) AND state = 0";
