//! Registrations that arrive together share a commit: while one batch is on its way to the database the next one
//! gathers, and goes when the answer is there. No timer and no waiting for company: who comes alone is sent at once.
//!
//! A batch holds a client key once. A second registration of it waits for the next batch, so that they take effect in
//! the order in which they came.
//!
//! Invariant: commit, then hint. Written and hinted here, and not by who asked: who hangs up in the middle has
//! registered, and what was registered is on time.

use std::collections::{HashSet, VecDeque};

use reveille_shared::model::UnixMs;
use reveille_shared::model::timing::ArmAt;
use reveille_shared::runtime::Context;
use reveille_shared::store::{Registration, StoreError, Upserted, UpsertedSchedule};
use tokio::sync::{mpsc, oneshot};

use crate::commit::commit;

/// Registrations written by one statement, at most.
const BATCH_LIMIT: usize = 500;

/// Registrations that wait, at most; beyond them callers wait to get in line.
const LINE: usize = 2 * BATCH_LIMIT;

type Answer = Result<UpsertedSchedule, StoreError>;

/// Takes registrations. Cloning shares the line.
#[derive(Clone)]
pub(crate) struct Registrar {
    line: mpsc::Sender<Asked>,
}

struct Asked {
    registration: Registration,
    answer: oneshot::Sender<Answer>,
}

impl Registrar {
    /// Starts it. It ends when everybody who could ask has gone.
    pub(crate) fn spawn(context: &Context) -> Self {
        let (line, asked) = mpsc::channel(LINE);
        let clerk = Clerk { context: context.clone(), asked, held_back: VecDeque::new() };
        let closing = context.lifecycle.closing().clone();
        context.lifecycle.spawn_attendant("registrations", async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = clerk.run() => {}
            }
        });
        Self { line }
    }

    /// Registers, and answers when it is on disk.
    ///
    /// # Errors
    /// As [`reveille_shared::store::Store::schedule_upsert`], for this registration alone.
    pub(crate) async fn register(&self, registration: Registration) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.line.send(Asked { registration, answer }).await.map_err(|_| StoreError::closed())?;
        answered.await.unwrap_or_else(|_| Err(StoreError::closed()))
    }
}

struct Clerk {
    context: Context,
    asked: mpsc::Receiver<Asked>,
    /// Came while their client key was in a batch.
    held_back: VecDeque<Asked>,
}

impl Clerk {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.write(batch).await;
        }
    }

    /// What waits, in the order in which it came; waits for the first.
    async fn next_batch(&mut self) -> Option<Vec<Asked>> {
        let first = match self.held_back.pop_front() {
            Some(first) => first,
            None => self.asked.recv().await?,
        };
        let mut clients = HashSet::from([first.registration.client.clone()]);
        let mut batch = vec![first];
        let mut held_back = VecDeque::new();
        while batch.len() < BATCH_LIMIT {
            let Some(next) = self.held_back.pop_front().or_else(|| self.asked.try_recv().ok()) else { break };
            if clients.insert(next.registration.client.clone()) {
                batch.push(next);
            } else {
                held_back.push_back(next);
            }
        }
        held_back.append(&mut self.held_back);
        self.held_back = held_back;
        Some(batch)
    }

    async fn write(&self, batch: Vec<Asked>) {
        let (registrations, mut answers): (Vec<Registration>, Vec<oneshot::Sender<Answer>>) =
            batch.into_iter().map(|asked| (asked.registration, asked.answer)).unzip();
        match self.upsert(&registrations).await {
            Ok(upserted) => {
                for (answer, schedule) in answers.into_iter().zip(upserted.schedules) {
                    // An error says that the caller hung up.
                    let _ = answer.send(Ok(schedule));
                }
            }
            Err(error) if answers.len() == 1 => {
                let _ = answers.remove(0).send(Err(error));
            }
            // In doubt, or the database is away: nobody is helped by asking it for each of them.
            Err(error @ StoreError::Unavailable(_)) => {
                for answer in answers {
                    let _ = answer.send(Err(error.shared()));
                }
            }
            // One of them is at fault, and must not take the others with it.
            Err(_) => {
                for (registration, answer) in registrations.iter().zip(answers) {
                    let alone = self.upsert(std::slice::from_ref(registration)).await;
                    let _ = answer.send(alone.and_then(only));
                }
            }
        }
    }

    async fn upsert(&self, registrations: &[Registration]) -> Result<Upserted, StoreError> {
        let intended = registrations.iter().map(|registration| self.intended(registration)).min().unwrap_or(0);
        let sent_at = self.context.clock.clock().monotonic();
        let written = self.context.store.schedule_upsert(registrations);
        let upserted = commit(&self.context, ArmAt::At(intended), written, |upserted| upserted.armed_min).await?;
        if let Some(now) = upserted.now {
            self.context.clock.learn(now, sent_at);
        }
        Ok(upserted)
    }

    fn intended(&self, registration: &Registration) -> UnixMs {
        match registration.arming.at {
            ArmAt::At(at) => at,
            ArmAt::AfterMs(after_ms) => self.context.clock.now_ms().saturating_add(after_ms),
        }
    }
}

fn only(upserted: Upserted) -> Answer {
    let none = || StoreError::Broken("a registration was not answered".to_owned());
    upserted.schedules.into_iter().next().ok_or_else(none)
}
