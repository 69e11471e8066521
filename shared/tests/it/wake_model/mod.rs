//! Exhaustive model of the wake protocol: every interleaving of one registrar, two monitors (the older
//! keeps running), one worker, the database and Redis, with faults. The key's transitions, the worker's
//! [`Waiter`] and the merging of unread states are the product's own functions; the model only orders them.
//!
//! A wake is lost when nothing but faults can happen any more and the worker is not armed by the earliest
//! committed run. Each rule that safety needs can be taken away, and must lose a wake then.
//!
//! Limits: one registration, one claim (that may fail), at most one dropped connection and one FLUSHALL.

mod explore;

use std::collections::VecDeque;
use std::time::Duration;

use reveille_shared::bus::Beat;
use reveille_shared::bus::waiter::Waiter;
use reveille_shared::bus::wake::{self, NEVER, Transition, WakeState};
use reveille_shared::model::UnixMs;

use self::explore::explore;

/// Scheduled from the start.
const KNOWN: UnixMs = 2;
/// What the registrar commits and hints.
const EARLIER: UnixMs = 1;

/// What holds in a run of the model. [`Rules::protocol`] is the product.
#[derive(Clone, Copy)]
struct Rules {
    flush: bool,
    registrar_dies: bool,
    mark_is_checked: bool,
    since_counts: bool,
    subscribe_before_read: bool,
    hints_in_flight_count: bool,
    commit_before_hint: bool,
    new_nonce_is_noticed: bool,
    recheck: bool,
    /// The worker may hear unread states merged.
    merges: bool,
    claim_fails: bool,
    failed_claims_are_owed: bool,
}

impl Rules {
    fn protocol() -> Self {
        Self {
            flush: true,
            registrar_dies: false,
            mark_is_checked: true,
            since_counts: true,
            subscribe_before_read: true,
            hints_in_flight_count: true,
            commit_before_hint: true,
            new_nonce_is_noticed: true,
            recheck: false,
            merges: true,
            claim_fails: true,
            failed_claims_are_owed: true,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    committed: bool,
    key: Option<WakeState>,
    registrar: Registrar,
    monitors: [Monitor; 2],
    worker: Worker,
    dropped: bool,
    flushed: bool,
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
    inbox: VecDeque<WakeState>,
    claim: Claim,
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
    fn new() -> Self {
        let key =
            WakeState { nonce: 1, epoch: 1, seq: 0, next_ms: KNOWN, mark: String::new(), since_ms: NEVER, db_ms: 0 };
        let leader = Monitor { leads: true, dirty: false, nonce: 1, step: MonitorStep::Idle };
        let candidate = Monitor { leads: false, dirty: true, nonce: 0, ..leader.clone() };
        Self {
            committed: false,
            key: Some(key),
            registrar: Registrar::Ready,
            monitors: [leader, candidate],
            worker: Worker { link: Link::Down, waiter: Waiter::new(), inbox: VecDeque::new(), claim: Claim::Unsent },
            dropped: false,
            flushed: false,
        }
    }

    fn earliest(&self) -> UnixMs {
        if self.committed { EARLIER } else { KNOWN }
    }

    fn is_lost(&self) -> bool {
        self.worker.link != Link::Up || self.worker.waiter.armed().is_none_or(|armed| armed > self.earliest())
    }

    fn put(&mut self, transition: Transition) {
        if transition.publish {
            self.publish(&transition.state);
        }
        self.key = Some(transition.state);
    }

    fn publish(&mut self, state: &WakeState) {
        if matches!(self.worker.link, Link::Subscribed | Link::Up) {
            self.worker.inbox.push_back(as_heard(state));
        }
    }
}

/// Without what concerns monitors only, which would tell equal worlds apart.
fn as_heard(state: &WakeState) -> WakeState {
    WakeState { mark: String::new(), since_ms: NEVER, ..state.clone() }
}

/// A step somebody can take next.
struct Step {
    label: &'static str,
    /// Whether the world may also stand still without it: faults, and heartbeats that say nothing new.
    optional: bool,
    world: World,
}

/// Collects what can happen next in `world`.
struct Steps<'a> {
    rules: Rules,
    world: &'a World,
    found: Vec<Step>,
}

impl Steps<'_> {
    fn of(world: &World, rules: Rules) -> Vec<Step> {
        let mut steps = Steps { rules, world, found: Vec::new() };
        steps.registrar();
        steps.monitor(
            0,
            ["M1.elect", "M1.mark", "M1.read", "M1.refused", "M1.set", "M1.notice", "M1.beat", "M1.recheck"],
        );
        steps.monitor(
            1,
            ["M2.elect", "M2.mark", "M2.read", "M2.refused", "M2.set", "M2.notice", "M2.beat", "M2.recheck"],
        );
        steps.worker();
        steps.faults();
        steps.found
    }

    fn can(&mut self, label: &'static str, change: impl FnOnce(&mut World)) {
        self.add(label, false, change);
    }

    fn may(&mut self, label: &'static str, change: impl FnOnce(&mut World)) {
        self.add(label, true, change);
    }

    fn add(&mut self, label: &'static str, optional: bool, change: impl FnOnce(&mut World)) {
        let mut world = self.world.clone();
        change(&mut world);
        self.found.push(Step { label, optional, world });
    }

    fn registrar(&mut self) {
        let commit = |world: &mut World| world.committed = true;
        let hint = |world: &mut World| world.put(wake::lower(world.key.as_ref(), EARLIER, 11));
        let commits_now = (self.world.registrar == Registrar::Ready) == self.rules.commit_before_hint;
        let next = match self.world.registrar {
            Registrar::Ready => Registrar::Between,
            Registrar::Between => Registrar::Done,
            Registrar::Done => return,
        };
        if commits_now {
            self.can("R.commit", |world| {
                commit(world);
                world.registrar = next;
            });
        } else {
            self.can("R.hint", |world| {
                hint(world);
                world.registrar = next;
            });
            if self.rules.registrar_dies {
                self.can("R.dies", |world| world.registrar = Registrar::Done);
            }
        }
    }

    fn monitor(&mut self, index: usize, labels: [&'static str; 8]) {
        let [elect, mark, read, refused, set, notice, beat, recheck] = labels;
        let monitor = &self.world.monitors[index];
        let token = ["one", "two"][index];
        if !monitor.leads {
            return self.can(elect, |world| world.monitors[index].leads = true);
        }
        match monitor.step {
            MonitorStep::Idle if monitor.dirty => self.can(mark, |world| {
                let state = wake::mark(world.key.as_ref(), token, 1, 21 + index as u64);
                let monitor = &mut world.monitors[index];
                *monitor = Monitor { dirty: false, nonce: state.nonce, step: MonitorStep::Marked, ..monitor.clone() };
                world.key = Some(state);
            }),
            MonitorStep::Idle => self.idle_monitor(index, notice, beat, recheck),
            MonitorStep::Marked => self.can(read, |world| {
                world.monitors[index].step = MonitorStep::Read(world.earliest());
            }),
            MonitorStep::Read(next) => match self.set(token, monitor.nonce, next) {
                Some(transition) => self.can(set, |world| {
                    world.monitors[index].step = MonitorStep::Idle;
                    world.put(transition);
                }),
                None => self.can(refused, |world| {
                    let monitor = &mut world.monitors[index];
                    *monitor = Monitor { dirty: true, step: MonitorStep::Idle, ..monitor.clone() };
                }),
            },
        }
    }

    fn set(&self, token: &str, nonce: u64, next: UnixMs) -> Option<Transition> {
        let mut key = self.world.key.clone()?;
        if !self.rules.mark_is_checked {
            token.clone_into(&mut key.mark);
        }
        if !self.rules.since_counts {
            key.since_ms = NEVER;
        }
        wake::set(Some(&key), token, nonce, Some(next))
    }

    fn idle_monitor(&mut self, index: usize, notice: &'static str, beat: &'static str, recheck: &'static str) {
        let rules = self.rules;
        let monitor = &self.world.monitors[index];
        let said =
            Beat { id: String::new(), epoch: 1, ttl: Duration::ZERO, db_ms: 0, seen_nonce: monitor.nonce, seen_seq: 0 };
        let state = wake::beat(self.world.key.as_ref(), &said, 31 + index as u64);
        let repeats = self.world.key.as_ref() == Some(&state);
        let is_new_life = state.nonce != monitor.nonce;
        if !repeats || is_new_life && rules.new_nonce_is_noticed {
            self.can(notice, |world| {
                world.monitors[index].dirty = rules.new_nonce_is_noticed;
                if !repeats {
                    world.publish(&state);
                }
                world.key = Some(state);
            });
        } else if self.world.worker.inbox.len() < 2 && self.world.worker.inbox.back() != Some(&as_heard(&state)) {
            self.may(beat, |world| world.publish(&state));
        }
        let differs = self.world.key.as_ref().is_none_or(|key| key.next_ms != self.world.earliest());
        if rules.recheck && differs {
            self.can(recheck, |world| world.monitors[index].dirty = true);
        }
    }

    fn worker(&mut self) {
        match self.world.worker.link {
            Link::Down if self.rules.subscribe_before_read => {
                self.can("W.subscribe", |world| world.worker.link = Link::Subscribed);
            }
            Link::Down => self.can("W.read", |world| read_key(world, Link::OnlyRead)),
            Link::OnlyRead => self.can("W.subscribe", |world| world.worker.link = Link::Up),
            Link::Subscribed => self.can("W.read", |world| read_key(world, Link::Up)),
            Link::Up => self.connected_worker(),
        }
    }

    fn connected_worker(&mut self) {
        let rules = self.rules;
        let worker = &self.world.worker;
        if !worker.inbox.is_empty() {
            self.can("W.hear", |world| {
                if let Some(state) = world.worker.inbox.pop_front() {
                    world.worker.waiter.heard(&state);
                }
            });
        }
        if rules.merges && worker.inbox.len() > 1 {
            self.may("W.merge", |world| {
                let inbox = &mut world.worker.inbox;
                if let (Some(earlier), Some(later)) = (inbox.pop_front(), inbox.pop_front()) {
                    inbox.push_front(wake::merge(&earlier, later));
                }
            });
        }
        match worker.claim {
            Claim::Unsent => self.can("W.claim", |world| {
                world.worker.waiter.claim_sent();
                world.worker.claim = Claim::Sent(world.earliest());
            }),
            Claim::Sent(next) => {
                self.can("W.answer", |world| {
                    let waiter = &mut world.worker.waiter;
                    if !rules.hints_in_flight_count {
                        waiter.claim_sent(); // forgets what was heard since the real one
                    }
                    waiter.claim_done(Some(next));
                    world.worker.claim = Claim::Answered;
                });
                if rules.claim_fails {
                    self.may("W.fail", |world| {
                        let waiter = &mut world.worker.waiter;
                        if rules.failed_claims_are_owed {
                            waiter.claim_failed();
                            world.worker.claim = Claim::Unsent;
                        } else {
                            waiter.claim_done(None);
                            world.worker.claim = Claim::Answered;
                        }
                    });
                }
            }
            Claim::Answered => {}
        }
    }

    fn faults(&mut self) {
        if !self.world.dropped && self.world.worker.link == Link::Up {
            self.may("F.drop", |world| {
                world.dropped = true;
                world.worker.link = Link::Down;
                world.worker.inbox.clear();
            });
        }
        if self.rules.flush && !self.world.flushed {
            self.may("F.flush", |world| {
                world.flushed = true;
                world.key = None;
            });
        }
    }
}

/// `heard`, not `connected`: the protocol has to hold without the claim a worker owes on reconnecting.
fn read_key(world: &mut World, link: Link) {
    world.worker.link = link;
    if let Some(key) = &world.key {
        world.worker.waiter.heard(key);
    }
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
