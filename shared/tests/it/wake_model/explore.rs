//! Breadth first through all worlds of the model, each visited once.

use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};

use reveille_shared::bus::wake::NEVER;

use super::{BUSY_LATER, Rules, Steps, World};

const LATER: i64 = BUSY_LATER.registered;
const STATES_AT_MOST: usize = 2_000_000;

pub(super) struct Verdict {
    pub(super) states: usize,
    /// The steps to a lost wake.
    pub(super) lost: Option<Vec<&'static str>>,
}

/// Breadth first through all worlds.
pub(super) fn explore(rules: Rules) -> Verdict {
    let mut seen = HashSet::from([packed(&World::new(rules.moment))]);
    let mut path: Vec<(usize, &'static str)> = vec![(0, "")];
    let mut queue = VecDeque::from([(0, World::new(rules.moment))]);
    while let Some((at, world)) = queue.pop_front() {
        let steps = Steps::of(&world, rules);
        if steps.iter().all(|step| step.optional) && world.is_lost() {
            return Verdict { states: seen.len(), lost: Some(trace(&path, at)) };
        }
        for step in steps {
            if seen.insert(packed(&step.world)) {
                path.push((at, step.label));
                queue.push_back((path.len() - 1, step.world));
            }
        }
        assert!(seen.len() < STATES_AT_MOST, "the model grew beyond what a test may take");
    }
    Verdict { states: seen.len(), lost: None }
}

fn trace(path: &[(usize, &'static str)], mut at: usize) -> Vec<&'static str> {
    let mut labels = Vec::new();
    while at != 0 {
        let (parent, label) = path[at];
        labels.push(label);
        at = parent;
    }
    labels.reverse();
    labels
}

/// The world in one byte per number: every number of the model is below 200, or [`NEVER`], or the one instant
/// that is too far ahead to be told.
fn packed(world: &World) -> Vec<u8> {
    let mut packer = Packer(Vec::with_capacity(96));
    world.hash(&mut packer);
    packer.0
}

struct Packer(Vec<u8>);

impl Packer {
    fn number(&mut self, number: i64) {
        let byte = match number {
            NEVER => u8::MAX,
            LATER => u8::MAX - 1,
            _ => u8::try_from(number).ok().filter(|byte| *byte < 200).unwrap(),
        };
        self.0.push(byte);
    }
}

impl Hasher for Packer {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn write_u64(&mut self, number: u64) {
        self.number(number as i64);
    }

    fn write_i64(&mut self, number: i64) {
        self.number(number);
    }

    fn write_isize(&mut self, number: isize) {
        self.number(number as i64);
    }

    fn write_usize(&mut self, number: usize) {
        self.number(number as i64);
    }

    fn finish(&self) -> u64 {
        0
    }
}
