//! What can happen next in a world: the steps of everybody, and the faults.

use std::collections::VecDeque;
use std::time::Duration;

use reveille_shared::bus::Beat;
use reveille_shared::bus::wake::{self, NEVER, Publish, Transition, WakeState};
use reveille_shared::model::UnixMs;

use super::{Claim, Link, Message, Moment, Monitor, MonitorStep, Passed, Registrar, Rules, Stage, World, as_heard};

/// A step somebody can take next.
pub(super) struct Step {
    pub(super) label: &'static str,
    /// Whether the world may also stand still without it: faults, and heartbeats that say nothing new.
    pub(super) optional: bool,
    pub(super) world: World,
}

/// Collects what can happen next in `world`.
pub(super) struct Steps<'a> {
    rules: Rules,
    world: &'a World,
    found: Vec<Step>,
}

impl Steps<'_> {
    pub(super) fn of(world: &World, rules: Rules) -> Vec<Step> {
        let mut steps = Steps { rules, world, found: Vec::new() };
        steps.registrar();
        if rules.monitors {
            steps.monitor(
                0,
                ["M1.elect", "M1.mark", "M1.read", "M1.refused", "M1.set", "M1.notice", "M1.beat", "M1.recheck"],
            );
            steps.monitor(
                1,
                ["M2.elect", "M2.mark", "M2.read", "M2.refused", "M2.set", "M2.notice", "M2.beat", "M2.recheck"],
            );
        }
        steps.worker();
        steps.other_worker();
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
        let rules = self.rules;
        let commit = |world: &mut World| world.runs[1].stage = Stage::Pending;
        let hint = |world: &mut World| world.put(lower(world, rules));
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
        wake::set(Some(&key), token, nonce, (next < NEVER).then_some(next))
    }

    fn idle_monitor(&mut self, index: usize, notice: &'static str, beat: &'static str, recheck: &'static str) {
        let rules = self.rules;
        let monitor = &self.world.monitors[index];
        let beaten =
            Beat { id: String::new(), epoch: 1, ttl: Duration::ZERO, db_ms: 0, seen_nonce: monitor.nonce, seen_seq: 0 };
        let state = wake::beat(self.world.key.as_ref(), &beaten, 31 + index as u64);
        let said = Message::State(as_heard(&state));
        let repeats = self.world.key.as_ref() == Some(&state);
        let is_new_life = state.nonce != monitor.nonce;
        if !repeats || is_new_life && rules.new_nonce_is_noticed {
            self.can(notice, |world| {
                world.monitors[index].dirty = rules.new_nonce_is_noticed;
                if !repeats {
                    world.publish(said);
                }
                world.key = Some(state);
            });
        } else if self.world.worker.inbox.len() < 2 && self.world.worker.inbox.back() != Some(&said) {
            self.may(beat, |world| world.publish(said));
        }
        let differs = self.world.key.as_ref().is_none_or(|key| key.next_ms != self.world.earliest());
        if rules.recheck && differs {
            self.can(recheck, |world| world.monitors[index].dirty = true);
        }
    }

    fn worker(&mut self) {
        let rules = self.rules;
        match self.world.worker.link {
            Link::Down if self.rules.subscribe_before_read => {
                self.can("W.subscribe", |world| world.worker.link = Link::Subscribed);
            }
            Link::Down => self.can("W.read", |world| read_key(world, rules, Link::OnlyRead)),
            Link::OnlyRead => self.can("W.subscribe", |world| world.worker.link = Link::Up),
            Link::Subscribed => self.can("W.read", |world| read_key(world, rules, Link::Up)),
            Link::Up => self.connected_worker(),
        }
    }

    fn connected_worker(&mut self) {
        let rules = self.rules;
        let worker = &self.world.worker;
        if !worker.inbox.is_empty() {
            self.can("W.hear", |world| match world.worker.inbox.pop_front() {
                Some(Message::State(state)) => world.worker.waiter.heard(&state),
                Some(Message::Soon(at)) => world.worker.waiter.hint(at),
                None => {}
            });
        }
        // A mailbox keeps the later place of two of a kind. Only states come twice here.
        let states = worker.inbox.iter().filter(|message| matches!(message, Message::State(_))).count();
        if rules.merges && states > 1 {
            self.may("W.merge", |world| merge_first_states(&mut world.worker.inbox));
        }
        match worker.claim {
            // In the quiet moment it may claim at any time: nothing is due, so nothing tells when it does.
            Claim::Unsent if rules.moment.now == 0 || worker.waiter.is_due(rules.moment.now) => {
                self.can("W.claim", |world| {
                    world.worker.waiter.claim_sent();
                    world.take(rules.moment.now);
                    world.worker.claim = Claim::Sent(world.earliest());
                });
            }
            Claim::Unsent => {}
            Claim::Sent(next) => {
                self.can("W.answer", |world| {
                    let waiter = &mut world.worker.waiter;
                    if !rules.hints_in_flight_count {
                        waiter.claim_sent(); // forgets what was heard since the real one
                    }
                    waiter.claim_done((next < NEVER).then_some(next));
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

    /// Somebody else claims what is due, and it matters to nobody whether he does.
    fn other_worker(&mut self) {
        let now = self.rules.moment.now;
        if self.world.earliest() <= now {
            self.may("O.claim", |world| world.take(now));
        }
    }

    fn faults(&mut self) {
        if self.rules.drop && !self.world.dropped && self.world.worker.link == Link::Up {
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

fn lower(world: &World, rules: Rules) -> Transition {
    let Moment { now, registered: at, .. } = rules.moment;
    let lowered = wake::lower(world.key.as_ref(), at, now, 11);
    match (rules.passed, lowered.publish) {
        (Passed::Silent, Publish::Soon(_)) => Transition { publish: Publish::Nothing, ..lowered },
        (Passed::Replaced, Publish::Soon(_)) => {
            let state = WakeState { next_ms: at, seq: lowered.state.seq + 1, ..lowered.state };
            Transition { state, publish: Publish::State }
        }
        _ => lowered,
    }
}

fn read_key(world: &mut World, rules: Rules, link: Link) {
    world.worker.link = link;
    let waiter = &mut world.worker.waiter;
    if rules.connecting_owes {
        waiter.connected(world.key.as_ref());
    } else if let Some(key) = &world.key {
        waiter.heard(key);
    }
}

fn merge_first_states(inbox: &mut VecDeque<Message>) {
    let is_state = |message: &Message| matches!(message, Message::State(_));
    let Some(earlier) = inbox.iter().position(is_state).and_then(|at| inbox.remove(at)) else { return };
    let Some(at) = inbox.iter().position(is_state) else { return };
    if let (Message::State(earlier), Message::State(later)) = (earlier, inbox[at].clone()) {
        inbox[at] = Message::State(wake::merge(&earlier, later));
    }
}
