//! Exhaustive model of the wake protocol: every interleaving of one registrar, two monitors (the older
//! keeps running), one worker, the database and Redis, with faults. The key's transitions, the worker's
//! [`Waiter`] and the merging of unread messages are the product's own functions; the model only orders them.
//!
//! A wake is lost when nothing but faults can happen any more and the worker is not armed by the earliest
//! committed run that nobody has claimed. Each rule that safety needs can be taken away, and must lose a wake
//! then. With the monitors held still the same question finds what is *late*: what only their look would mend.
//!
//! Two moments. Quiet: the instant that is known lies ahead and the registrar's lies before it. Busy: the
//! known instant has passed, its run may be claimed at any time by anybody, and the registrar's lies after it.
//!
//! Limits: one registration, one claim (that may fail), at most one dropped connection and one FLUSHALL.

mod explore;
mod steps;

use std::collections::VecDeque;

use reveille_shared::bus::waiter::Waiter;
use reveille_shared::bus::wake::{NEVER, Publish, SOON_MS, Transition, WakeState};
use reveille_shared::model::UnixMs;

use self::explore::explore;
use self::steps::Steps;

/// What holds in a run of the model. [`Rules::protocol`] is the product.
#[derive(Clone, Copy)]
struct Rules {
    moment: Moment,
    flush: bool,
    /// Whether the connection may drop.
    drop: bool,
    /// Whether monitors do anything.
    monitors: bool,
    registrar_dies: bool,
    mark_is_checked: bool,
    since_counts: bool,
    subscribe_before_read: bool,
    /// Whether a worker owes a claim when it is connected. The rest of the protocol has to do without.
    connecting_owes: bool,
    hints_in_flight_count: bool,
    commit_before_hint: bool,
    new_nonce_is_noticed: bool,
    recheck: bool,
    /// The worker may hear unread messages merged.
    merges: bool,
    claim_fails: bool,
    failed_claims_are_owed: bool,
    /// What a LOWER does once the published instant has passed.
    passed: Passed,
}

/// What a LOWER says of a later instant than the published one, when that has passed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// Beside it.
    Soon,
    /// Nothing: the monitor will look.
    Silent,
    /// In its place, as the next one.
    Replaced,
}

/// What there is at the start.
#[derive(Clone, Copy)]
struct Moment {
    /// What the database's clock shows throughout.
    now: UnixMs,
    /// Scheduled from the start, and what the key says is next.
    known: UnixMs,
    /// What the registrar commits and hints.
    registered: UnixMs,
}

const QUIET: Moment = Moment { now: 0, known: 2, registered: 1 };
const BUSY: Moment = Moment { now: 3, known: 1, registered: 2 };
/// Busy, and what is registered comes in a moment.
const BUSY_SOON: Moment = Moment { registered: 4, ..BUSY };
/// Busy, and what is registered lies too far ahead to be told.
const BUSY_LATER: Moment = Moment { registered: BUSY.now + SOON_MS + 1, ..BUSY };

impl Rules {
    fn protocol() -> Self {
        Self {
            moment: QUIET,
            flush: true,
            drop: true,
            monitors: true,
            registrar_dies: false,
            mark_is_checked: true,
            since_counts: true,
            subscribe_before_read: true,
            connecting_owes: false,
            hints_in_flight_count: true,
            commit_before_hint: true,
            new_nonce_is_noticed: true,
            recheck: false,
            merges: true,
            claim_fails: true,
            failed_claims_are_owed: true,
            passed: Passed::Soon,
        }
    }

    fn at(moment: Moment) -> Self {
        Self { moment, ..Self::protocol() }
    }

    /// Nobody mends anything: what is lost then is late in the product.
    fn monitors_held_still(moment: Moment) -> Self {
        Self { monitors: false, flush: false, connecting_owes: true, ..Self::at(moment) }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    /// The run that is scheduled from the start, and the registrar's.
    runs: [Run; 2],
    key: Option<WakeState>,
    registrar: Registrar,
    monitors: [Monitor; 2],
    worker: Worker,
    dropped: bool,
    flushed: bool,
}

/// A run that exists, or does not.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Run {
    due_at: UnixMs,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Uncommitted,
    Pending,
    Claimed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Registrar {
    Ready,
    Between,
    Done,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Monitor {
    leads: bool,
    /// It has a reason to recompute.
    dirty: bool,
    nonce: u64,
    step: MonitorStep,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum MonitorStep {
    Idle,
    Marked,
    Read(UnixMs),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Worker {
    link: Link,
    waiter: Waiter,
    inbox: VecDeque<Message>,
    claim: Claim,
}

/// What waits to be heard.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Message {
    State(WakeState),
    Soon(UnixMs),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Link {
    Down,
    Subscribed,
    /// Only where a mutant reads before it subscribes.
    OnlyRead,
    Up,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Claim {
    Unsent,
    /// The database took it when this was the next instant; the answer is under way.
    Sent(UnixMs),
    Answered,
}

impl World {
    fn new(moment: Moment) -> Self {
        let next_ms = moment.known;
        let key = WakeState { nonce: 1, epoch: 1, seq: 0, next_ms, mark: String::new(), since_ms: NEVER, db_ms: 0 };
        let leader = Monitor { leads: true, dirty: false, nonce: 1, step: MonitorStep::Idle };
        let candidate = Monitor { leads: false, dirty: true, nonce: 0, ..leader.clone() };
        Self {
            runs: [
                Run { due_at: moment.known, stage: Stage::Pending },
                Run { due_at: moment.registered, stage: Stage::Uncommitted },
            ],
            key: Some(key),
            registrar: Registrar::Ready,
            monitors: [leader, candidate],
            worker: Worker { link: Link::Down, waiter: Waiter::new(), inbox: VecDeque::new(), claim: Claim::Unsent },
            dropped: false,
            flushed: false,
        }
    }

    /// The least instant of a run that is pending; [`NEVER`] without one.
    fn earliest(&self) -> UnixMs {
        let pending = self.runs.iter().filter(|run| run.stage == Stage::Pending);
        pending.map(|run| run.due_at).min().unwrap_or(NEVER)
    }

    /// Claims what is due.
    fn take(&mut self, now: UnixMs) {
        for run in &mut self.runs {
            if run.stage == Stage::Pending && run.due_at <= now {
                run.stage = Stage::Claimed;
            }
        }
    }

    fn is_lost(&self) -> bool {
        self.worker.link != Link::Up || self.worker.waiter.armed().unwrap_or(NEVER) > self.earliest()
    }

    fn put(&mut self, transition: Transition) {
        match transition.publish {
            Publish::Nothing => {}
            Publish::State => self.publish(Message::State(as_heard(&transition.state))),
            Publish::Soon(at) => self.publish(Message::Soon(at)),
        }
        self.key = Some(transition.state);
    }

    fn publish(&mut self, message: Message) {
        if matches!(self.worker.link, Link::Subscribed | Link::Up) {
            self.worker.inbox.push_back(message);
        }
    }
}

/// Without what concerns monitors only, which would tell equal worlds apart.
fn as_heard(state: &WakeState) -> WakeState {
    WakeState { mark: String::new(), since_ms: NEVER, ..state.clone() }
}

fn safe(rules: Rules) {
    let verdict = explore(rules);
    eprintln!("{} states", verdict.states);
    assert_eq!(verdict.lost, None);
}

fn loses_a_wake(rules: Rules) {
    let verdict = explore(rules);
    eprintln!("{} states: {:?}", verdict.states, verdict.lost);
    assert!(verdict.lost.is_some(), "no wake is lost without the rule: the rule is not tested");
}

#[test]
fn safe_without_faults_of_redis() {
    safe(Rules { flush: false, ..Rules::protocol() });
}

#[test]
fn safe_with_a_flush_and_a_dropped_connection() {
    safe(Rules::protocol());
}

#[test]
fn safe_when_the_registrar_dies_before_its_hint() {
    // Without what the run above explores, or the states are more than a test may take.
    safe(Rules { registrar_dies: true, recheck: true, merges: false, claim_fails: false, ..Rules::protocol() });
}

#[test]
fn safe_after_an_instant_has_passed() {
    for moment in [BUSY, BUSY_SOON, BUSY_LATER] {
        safe(Rules { flush: false, recheck: true, ..Rules::at(moment) });
    }
}

#[test]
fn in_time_after_an_instant_has_passed_although_no_monitor_looks() {
    for moment in [BUSY, BUSY_SOON] {
        safe(Rules::monitors_held_still(moment));
        safe(connected_throughout(moment));
    }
}

#[test]
fn late_when_a_passed_instant_silences_a_lower() {
    for moment in [BUSY, BUSY_SOON] {
        loses_a_wake(Rules { passed: Passed::Silent, ..Rules::monitors_held_still(moment) });
    }
}

#[test]
fn late_when_a_later_instant_replaces_one_that_is_not_claimed() {
    loses_a_wake(Rules { passed: Passed::Replaced, ..connected_throughout(BUSY_SOON) });
}

#[test]
fn late_when_what_is_soon_and_told_during_a_claim_does_not_count() {
    loses_a_wake(Rules { hints_in_flight_count: false, ..Rules::monitors_held_still(BUSY) });
}

#[test]
fn late_when_what_is_soon_is_told_before_the_commit() {
    loses_a_wake(Rules { commit_before_hint: false, ..Rules::monitors_held_still(BUSY) });
}

#[test]
fn late_when_a_reconnected_worker_does_not_look() {
    loses_a_wake(Rules { connecting_owes: false, ..Rules::monitors_held_still(BUSY) });
}

/// Without the claim owed on connecting, which would hide that a worker forgot what it was told.
fn connected_throughout(moment: Moment) -> Rules {
    Rules { drop: false, connecting_owes: false, ..Rules::monitors_held_still(moment) }
}

#[test]
fn late_by_the_monitors_look_when_it_lies_further_ahead() {
    loses_a_wake(Rules::monitors_held_still(BUSY_LATER));
}

#[test]
fn lost_without_the_recheck_when_the_registrar_dies() {
    loses_a_wake(Rules { registrar_dies: true, ..Rules::protocol() });
}

#[test]
fn lost_without_the_mark_check() {
    loses_a_wake(Rules { mark_is_checked: false, ..Rules::protocol() });
}

#[test]
fn lost_without_since() {
    loses_a_wake(Rules { since_counts: false, ..Rules::protocol() });
}

#[test]
fn lost_when_the_key_is_read_before_subscribing() {
    loses_a_wake(Rules { subscribe_before_read: false, ..Rules::protocol() });
}

#[test]
fn lost_when_hints_during_a_claim_do_not_count() {
    loses_a_wake(Rules { hints_in_flight_count: false, ..Rules::protocol() });
}

#[test]
fn lost_when_hinted_before_the_commit() {
    loses_a_wake(Rules { commit_before_hint: false, ..Rules::protocol() });
}

#[test]
fn lost_when_a_new_nonce_is_not_noticed() {
    loses_a_wake(Rules { new_nonce_is_noticed: false, ..Rules::protocol() });
}

#[test]
fn lost_when_a_failed_claim_is_forgotten() {
    loses_a_wake(Rules { failed_claims_are_owed: false, ..Rules::protocol() });
}
