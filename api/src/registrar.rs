//! The registrar: registrations that arrive together share a commit.
//!
//! ```text
//!            hand over           a lane is free             the answer came
//!  caller ─────────────▶ waiting ───────────────▶ in flight ───────────────▶ each caller gets its own
//!                           ▲                         │  one of several may be at fault: each again, alone
//!                           └── arrives meanwhile     └─ the database is away: all of them are in doubt
//! ```
//!
//! Nobody waits for company: a registration goes at once while a lane is free, and what arrives while the lanes are
//! busy goes together when one of them comes back. So the load itself makes the batches, without a timer.
//!
//! A lane is a task of its own, because whoever waits may hang up: what was sent is written, answered and hinted all
//! the same, and nobody else's registration hangs on it. Lanes are duties that end when nothing waits, so a stop waits
//! for them, and for their hints after them. What was not sent yet when its caller hung up is dropped: he does not
//! know either way, and a database that is behind should not work for those who have given up.
//!
//! Invariant: of one client key at most one registration is in flight, in the order they came.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{FuturesOrdered, StreamExt};
use reveille_shared::Context;
use reveille_shared::model::schedule::ClientKey;
use reveille_shared::store::{Registration, StoreError, UpsertedSchedule};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::commit::{Armed, commit, estimated};

/// Statements in flight at a time.
const LANES: usize = 2;
/// Registrations in one statement, at most.
const BATCH_LIMIT: usize = 500;
/// Statements in flight for those that go alone.
const EACH: usize = 4;
/// Bytes of payload that make a batch full, below what one statement can carry by far.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Registrations that wait or are in flight, at most; beyond that their callers wait for a place.
const PLACES: usize = 4 * BATCH_LIMIT;

/// What became of one registration. Several may fail by one failure.
type Outcome = Result<UpsertedSchedule, Arc<StoreError>>;

/// Writes registrations. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Registrar {
    context: Context,
    places: Arc<Semaphore>,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    /// In the order they came.
    waiting: VecDeque<Waiting>,
    /// Client keys of what is in flight.
    in_flight: HashSet<ClientKey>,
    /// Lanes under way.
    lanes: usize,
}

/// A registration and who waits for it.
struct Waiting {
    registration: Registration,
    caller: oneshot::Sender<Outcome>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Registrar {
    pub(crate) fn new(context: Context) -> Self {
        Self { context, places: Arc::new(Semaphore::new(PLACES)), queue: Arc::default() }
    }

    /// Registers one schedule; answers when it is on disk.
    ///
    /// # Errors
    /// As [`reveille_shared::store::Store::schedule_upsert`] of this registration alone.
    pub(crate) async fn register(&self, registration: Registration) -> Outcome {
        // Never closed, so there always comes a place.
        let place = self.places.clone().acquire_owned().await.ok();
        let (caller, outcome) = oneshot::channel();
        self.hand_over(Waiting { registration, caller, _place: place });
        outcome.await.unwrap_or_else(|_| {
            let ended = "registrations were given up: the task that writes them ended";
            Err(Arc::new(StoreError::Broken(ended.to_owned())))
        })
    }

    fn hand_over(&self, waiting: Waiting) {
        let mut queue = self.lock();
        queue.waiting.push_back(waiting);
        let takes_a_lane = queue.lanes < LANES;
        queue.lanes += usize::from(takes_a_lane);
        drop(queue);
        if takes_a_lane {
            let lane = Lane { registrar: self.clone(), keys: Vec::new(), has_ended: false };
            self.context.lifecycle.spawn("registrar", lane.run());
        }
    }

    async fn send(&self, batch: Vec<Waiting>) {
        let (registrations, callers): (Vec<Registration>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.registration, (waiting.caller, waiting._place))).unzip();
        self.context.faults.pass("api.registering").await;
        let outcomes = match self.write(&registrations).await {
            Ok(schedules) => schedules.into_iter().map(Ok).collect(),
            Err(error) if registrations.len() > 1 && error.may_be_of_one() => self.write_each(&registrations).await,
            Err(error) => vec![Err(Arc::new(error)); registrations.len()],
        };
        for ((caller, _place), outcome) in callers.into_iter().zip(outcomes) {
            // He may have hung up.
            let _ = caller.send(outcome);
        }
    }

    /// Each alone, so that one that fails fails alone; a few at a time, so that one that waits for somebody who holds its
    /// row does not hold up the others.
    async fn write_each(&self, registrations: &[Registration]) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(registrations.len());
        let (mut writing, mut waiting) = (FuturesOrdered::new(), registrations.iter());
        loop {
            while writing.len() < EACH
                && let Some(registration) = waiting.next()
            {
                writing.push_back(self.write_one(registration));
            }
            let Some(outcome) = writing.next().await else { break };
            let is_away = outcome.as_ref().is_err_and(|error| !error.may_be_of_one());
            outcomes.push(outcome.map_err(Arc::new));
            if is_away {
                break;
            }
        }
        // The database went away meanwhile. These were not written: the statement that held them all was refused.
        if let Some(last) = outcomes.last().cloned() {
            outcomes.resize(registrations.len(), last);
        }
        outcomes
    }

    async fn write_one(&self, registration: &Registration) -> Result<UpsertedSchedule, StoreError> {
        let written = self.write(std::slice::from_ref(registration)).await?;
        written.into_iter().next().ok_or_else(|| StoreError::Broken("a registration was not answered".to_owned()))
    }

    /// One statement.
    async fn write(&self, registrations: &[Registration]) -> Result<Vec<UpsertedSchedule>, StoreError> {
        let Context { store, clock, .. } = &self.context;
        let instants = registrations.iter().map(|registration| estimated(clock, registration.arming.at));
        let Some(intended) = instants.min() else { return Ok(Vec::new()) };
        let upserted = commit(&self.context, intended, store.schedule_upsert(registrations), Armed::by_registration);
        Ok(upserted.await?.schedules)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends one batch after the other, until nothing waits.
struct Lane {
    registrar: Registrar,
    /// Client keys of the batch it has in flight.
    keys: Vec<ClientKey>,
    has_ended: bool,
}

impl Lane {
    async fn run(mut self) {
        let aborting = self.registrar.context.lifecycle.aborting().clone();
        let send_all = async {
            while let Some(batch) = self.next_batch() {
                self.registrar.send(batch).await;
            }
        };
        tokio::select! {
            () = aborting.cancelled() => {}
            () = send_all => {}
        }
    }

    /// Ends the batch before and takes the next one. `None` ends the lane, in the same breath as it looks: whoever
    /// hands over after that finds a lane free.
    fn next_batch(&mut self) -> Option<Vec<Waiting>> {
        let mut queue = self.registrar.lock();
        for key in self.keys.drain(..) {
            queue.in_flight.remove(&key);
        }
        let batch = queue.take();
        self.keys.extend(batch.iter().map(|waiting| waiting.registration.client.clone()));
        self.has_ended = batch.is_empty();
        queue.lanes -= usize::from(self.has_ended);
        (!self.has_ended).then_some(batch)
    }
}

/// A lane that was given up in the middle: its process is ending.
impl Drop for Lane {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut queue = self.registrar.lock();
        queue.lanes -= 1;
        for key in self.keys.drain(..) {
            queue.in_flight.remove(&key);
        }
        if queue.lanes == 0 {
            queue.waiting.clear();
        }
    }
}

impl Queue {
    /// The next batch, in the order they came. What has a client key that is in flight is passed over.
    fn take(&mut self) -> Vec<Waiting> {
        let (mut batch, mut bytes, mut passed_over) = (Vec::new(), 0, Vec::new());
        // Full is full: with a smaller one from behind, two of one client key might change places.
        while batch.len() < BATCH_LIMIT
            && bytes < BATCH_BYTES
            && let Some(next) = self.waiting.pop_front()
        {
            if next.caller.is_closed() {
                continue;
            }
            if self.in_flight.insert(next.registration.client.clone()) {
                bytes += next.registration.payload.len();
                batch.push(next);
            } else {
                passed_over.push(next);
            }
        }
        for next in passed_over.into_iter().rev() {
            self.waiting.push_front(next);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use reveille_shared::model::timing::{ArmAt, Arming, OnUnchanged};
    use uuid::Uuid;

    use super::*;

    fn waiting(key: &str, name: &str, payload_bytes: usize) -> (Waiting, oneshot::Receiver<Outcome>) {
        let registration = Registration {
            id: Uuid::nil(),
            client: ClientKey { key: key.to_owned(), ..ClientKey::default() },
            name: name.to_owned(),
            payload: "x".repeat(payload_bytes),
            fingerprint: String::new(),
            queue: String::new(),
            priority: 0,
            arming: Arming { at: ArmAt::AfterMs(0), calendar: false, unchanged: OnUnchanged::Rearm },
            run_id: Uuid::nil(),
            history_check: false,
        };
        let (caller, outcome) = oneshot::channel();
        (Waiting { registration, caller, _place: None }, outcome)
    }

    /// Takes batch after batch, each answered before the next is taken; answers the names in them.
    fn batches(asked: &[(&str, &str, usize)]) -> Vec<String> {
        let (waiting, _callers): (VecDeque<_>, Vec<_>) =
            asked.iter().map(|(key, name, bytes)| waiting(key, name, *bytes)).unzip();
        let mut queue = Queue { waiting, ..Queue::default() };
        let mut taken = Vec::new();
        while !queue.waiting.is_empty() {
            let batch = queue.take();
            taken.push(batch.iter().map(|waiting| waiting.registration.name.as_str()).collect());
            queue.in_flight.clear();
        }
        taken
    }

    #[test]
    fn a_batch_holds_a_client_key_once_and_keeps_the_order() {
        assert_eq!(
            batches(&[("a", "1", 0), ("b", "2", 0), ("a", "3", 0), ("a", "4", 0), ("b", "5", 0)]),
            ["12", "35", "4"]
        );
    }

    #[test]
    fn a_full_batch_takes_nothing_from_behind() {
        let large = BATCH_BYTES - 1;
        assert_eq!(batches(&[("a", "1", large), ("b", "2", 1), ("c", "3", 0), ("b", "4", 0)]), ["12", "34"]);
        assert_eq!(batches(&[("a", "1", 2 * BATCH_BYTES), ("b", "2", 0)]), ["1", "2"]);
        let many = vec![("", "x", 0); 3];
        assert_eq!(batches(&many), ["x", "x", "x"]);
        let keys: Vec<String> = (0..=BATCH_LIMIT).map(|key| key.to_string()).collect();
        let asked: Vec<(&str, &str, usize)> = keys.iter().map(|key| (key.as_str(), "x", 0)).collect();
        assert_eq!(batches(&asked), ["x".repeat(BATCH_LIMIT), "x".to_owned()]);
    }

    #[test]
    fn what_is_in_flight_is_passed_over_and_who_hung_up_is_dropped() {
        let (mut queue, mut callers) = (Queue::default(), Vec::new());
        queue.in_flight.insert(ClientKey { key: "a".to_owned(), ..ClientKey::default() });
        for (key, stays) in [("a", true), ("b", false), ("c", true)] {
            let (waiting, caller) = waiting(key, key, 0);
            queue.waiting.push_back(waiting);
            callers.extend(stays.then_some(caller));
        }
        let names =
            |batch: Vec<Waiting>| batch.into_iter().map(|waiting| waiting.registration.name).collect::<Vec<_>>();
        assert_eq!(names(queue.take()), ["c"]);
        assert!(queue.take().is_empty());
        queue.in_flight.clear();
        assert_eq!(names(queue.take()), ["a"]);
    }
}
