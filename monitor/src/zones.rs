//! When the leading monitor examines what is armed by older rules of time zones than it has: all of it once for each new
//! version, part by part, and afterwards what a process with older rules arms. Pauses between parts, as the sweep does.
//!
//! The newest rules win: a monitor with older ones than the cluster knows moves nothing.

use std::time::Duration;

use reveille_shared::Context;
use reveille_shared::model::ScheduleId;
use reveille_shared::model::policy::Plan;
use reveille_shared::model::{RunId, UnixMs};
use reveille_shared::store::{StoreError, ZoneMove, ZonePage, ZoneStanding, Zoned};

/// Schedules of one part.
const PART: i64 = 500;

const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_PER_WORK: u32 = 1;

/// Longer than any statement may take.
const IN_FLIGHT: Duration = Duration::from_secs(6);

/// What is to be examined, and how far that has come.
#[derive(Debug, Default)]
pub(crate) struct Zones {
    /// Everything: after this schedule.
    all: Option<Option<ScheduleId>>,
    /// What was armed by older rules since.
    unsure: bool,
    /// When the next part is due.
    at: Duration,
    /// Of the examination under way, for the log.
    examined: u64,
    moved: u64,
    /// Whether the store knows that it is under way.
    has_begun: bool,
    /// Whether no monitor has examined anything in this database before: then nothing was armed by rules it knew.
    is_first: bool,
    /// Whether it was said that these rules are not the newest.
    is_behind: bool,
}

/// What came of a part.
pub(crate) struct Part {
    /// The earliest instant to which something was moved.
    pub(crate) armed_min: Option<UnixMs>,
    /// How long to wait at least until the next.
    pub(crate) pause: Duration,
}

impl Zones {
    /// Takes in how the cluster stands to the rules; `mine` are those of this process.
    pub(crate) fn on_standing(&mut self, standing: ZoneStanding, mine: i32) {
        let is_behind = mine < standing.version;
        if is_behind && !self.is_behind {
            tracing::warn!(
                mine,
                newest = standing.version,
                "this process has older rules of time zones than others had"
            );
        }
        self.is_behind = is_behind;
        if is_behind {
            (self.all, self.unsure) = (None, false);
            return;
        }
        if standing.examined < mine && self.all.is_none() {
            (self.all, self.has_begun, self.examined, self.moved) = (Some(None), false, 0, 0);
            self.is_first = standing.version == 0;
        }
        self.unsure |= standing.unsure;
    }

    fn is_wanted(&self) -> bool {
        self.all.is_some() || self.unsure
    }

    /// Whether a part is due.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.is_wanted() && self.at <= now
    }

    /// When the next part is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.is_wanted().then_some(self.at)
    }

    /// Waits after a part, and longer after one that failed.
    pub(crate) fn rest(&mut self, now: Duration, took: Duration, pause: Option<Duration>) {
        self.at = now + pause.map_or(IN_FLIGHT, |pause| pause.max(took * PAUSE_PER_WORK));
    }

    /// Examines the next part by the rules `mine`.
    ///
    /// # Errors
    /// When the database does not serve; the same part comes again.
    pub(crate) async fn work(&mut self, context: &Context, mine: i32) -> Result<Part, StoreError> {
        let Some(after) = self.all else {
            let unsure = context.store.zone_unsure(PART).await?;
            self.unsure = i64::try_from(unsure.len()).is_ok_and(|count| count == PART);
            let runs: Vec<RunId> = unsure.iter().map(|zoned| zoned.run_id).collect();
            let (part, moved) = examine(context, &unsure, mine).await?;
            if !runs.is_empty() {
                context.store.zone_sure(&runs, mine).await?;
                tracing::info!(examined = runs.len(), moved, "runs that older rules of time zones armed were examined");
            }
            return Ok(part);
        };
        if after.is_none() && !self.has_begun {
            context.store.zone_begin(mine).await?;
            self.has_begun = true;
            if !self.is_first {
                // What is on its way may not have seen that; it has committed, or failed, before the examination begins.
                return Ok(Part { armed_min: None, pause: IN_FLIGHT });
            }
        }
        let ZonePage { zoned, last } = context.store.zone_examine(mine, after, PART).await?;
        let (part, moved) = examine(context, &zoned, mine).await?;
        self.examined += zoned.len() as u64;
        self.moved += moved;
        self.all = last.map(Some);
        if self.all.is_none() {
            context.store.zone_end(mine).await?;
            let (examined, moved) = (self.examined, self.moved);
            tracing::info!(rules = mine, examined, moved, "what was armed by older rules of time zones was examined");
        }
        Ok(part)
    }
}

/// Moves what lies elsewhere by the rules of this process; answers how many.
async fn examine(context: &Context, zoned: &[Zoned], mine: i32) -> Result<(Part, u64), StoreError> {
    let (mut part, mut moved) = (Part { armed_min: None, pause: PAUSE }, 0);
    for zoned in zoned.iter().filter(|zoned| zoned.attempt == 0) {
        let Some(Plan { timing, .. }) = Plan::read(&zoned.payload) else { continue };
        let Some(to) = timing.moved(zoned.nominal_at, zoned.taken, context.clock.now_ms()) else { continue };
        let (run_id, from) = (zoned.run_id, zoned.nominal_at);
        let change = ZoneMove { id: zoned.id, revision: zoned.revision, run_id, from, to, rules: mine };
        if let Some(due_at) = context.store.zone_move(&change).await? {
            tracing::debug!(schedule.id = %zoned.id, from = zoned.nominal_at, to, "a run was moved");
            moved += 1;
            part.armed_min = Some(part.armed_min.map_or(due_at, |least| least.min(due_at)));
        }
    }
    Ok((part, moved))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: i32 = 202_606;

    fn standing(version: i32, examined: i32, unsure: bool) -> ZoneStanding {
        ZoneStanding { version, examined, unsure }
    }

    fn is_due(standing: ZoneStanding) -> bool {
        let mut zones = Zones::default();
        zones.on_standing(standing, MINE);
        assert_eq!(zones.deadline().is_some(), zones.is_due(Duration::ZERO));
        zones.is_due(Duration::ZERO)
    }

    #[test]
    fn what_older_rules_armed_is_examined_and_nothing_else() {
        assert!(is_due(standing(0, 0, false)), "nobody examined anything yet");
        assert!(is_due(standing(202_502, 202_502, false)), "these are newer");
        assert!(is_due(standing(MINE, 202_502, false)), "somebody began and did not end");
        assert!(is_due(standing(MINE, MINE, true)), "an older process armed something");
        assert!(!is_due(standing(MINE, MINE, false)));
    }

    #[test]
    fn older_rules_than_the_cluster_knows_move_nothing() {
        assert!(!is_due(standing(MINE + 1, MINE, true)));
        let mut zones = Zones::default();
        zones.on_standing(standing(MINE, 202_502, true), MINE);
        zones.on_standing(standing(MINE + 1, 202_502, true), MINE);
        assert!(!zones.is_due(Duration::MAX), "not even what was begun");
    }

    #[test]
    fn a_part_is_followed_by_a_pause_and_a_failure_by_a_longer_one() {
        let mut zones = Zones::default();
        zones.on_standing(standing(MINE, MINE, true), MINE);
        zones.rest(Duration::ZERO, Duration::from_millis(90), Some(PAUSE));
        assert_eq!(zones.deadline(), Some(Duration::from_millis(90)));
        zones.rest(Duration::ZERO, Duration::ZERO, None);
        assert_eq!(zones.deadline(), Some(IN_FLIGHT));
    }
}
