//! The hinter: nothing hinted is forgotten, whatever the bus does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reveille_shared::bus::hint::Hinter;
use reveille_shared::bus::local::LocalBus;
use reveille_shared::bus::presence::WorkerPresence;
use reveille_shared::bus::redis::RedisBus;
use reveille_shared::bus::stage::{RunStage, StageWatch};
use reveille_shared::bus::wake::WakeState;
use reveille_shared::bus::{Beat, Bus, BusError, BusEvent, Subscription, ToldBacklog};
use reveille_shared::model::UnixMs;
use reveille_shared::runtime::clock::SystemClock;
use reveille_shared::runtime::lifecycle::Lifecycle;
use tokio::sync::Semaphore;

use crate::eventually;
use crate::redis_server::RedisServer;

const SOON: Duration = Duration::from_secs(10);

async fn sent_all(hints: &Hinter) {
    eventually("all hints are sent", SOON, async || hints.pending().is_none().then_some(())).await;
}

/// A local bus whose LOWER takes effect and then waits for a permit before it is acknowledged.
#[derive(Default)]
struct SlowAnswers {
    bus: LocalBus,
    lowered: AtomicBool,
    permits: Option<Semaphore>,
}

#[async_trait]
impl Bus for SlowAnswers {
    async fn lower(&self, at: UnixMs, now: UnixMs) -> Result<WakeState, BusError> {
        let state = self.bus.lower(at, now).await;
        self.lowered.store(true, Ordering::SeqCst);
        if let Some(permits) = &self.permits {
            permits.acquire().await.unwrap().forget();
        }
        state
    }

    async fn mark(&self, token: &str, epoch: i64) -> Result<WakeState, BusError> {
        self.bus.mark(token, epoch).await
    }

    async fn set(&self, token: &str, nonce: u64, next: Option<UnixMs>) -> Result<Option<WakeState>, BusError> {
        self.bus.set(token, nonce, next).await
    }

    async fn nudge(&self) -> Result<Option<WakeState>, BusError> {
        self.bus.nudge().await
    }

    async fn beat(&self, beat: &Beat) -> Result<Option<WakeState>, BusError> {
        self.bus.beat(beat).await
    }

    async fn elect(&self, id: &str, ttl: Duration) -> Result<bool, BusError> {
        self.bus.elect(id, ttl).await
    }

    async fn resign(&self, id: &str) -> Result<(), BusError> {
        self.bus.resign(id).await
    }

    async fn read(&self) -> Result<Option<WakeState>, BusError> {
        self.bus.read().await
    }

    async fn backlog_tell(&self, told: &ToldBacklog, ttl: Duration) -> Result<(), BusError> {
        self.bus.backlog_tell(told, ttl).await
    }

    async fn backlog_read(&self) -> Result<Option<ToldBacklog>, BusError> {
        self.bus.backlog_read().await
    }

    async fn worker_tell(&self, worker: &WorkerPresence) -> Result<(), BusError> {
        self.bus.worker_tell(worker).await
    }

    async fn worker_gone(&self, id: &str) -> Result<(), BusError> {
        self.bus.worker_gone(id).await
    }

    async fn workers_read(&self) -> Result<Vec<WorkerPresence>, BusError> {
        self.bus.workers_read().await
    }

    async fn backlog_want(&self) -> Result<(), BusError> {
        self.bus.backlog_want().await
    }

    async fn stages_want(&self) -> Result<(), BusError> {
        self.bus.stages_want().await
    }

    async fn stages_tell(&self, stages: &[RunStage]) -> Result<(), BusError> {
        self.bus.stages_tell(stages).await
    }

    fn stages_watch(&self) -> StageWatch {
        self.bus.stages_watch()
    }

    fn subscribe(&self) -> Subscription {
        self.bus.subscribe()
    }
}

#[tokio::test]
async fn a_hint_during_a_lower_is_sent_after_it() {
    let bus = Arc::new(SlowAnswers { permits: Some(Semaphore::new(0)), ..SlowAnswers::default() });
    let lifecycle = Lifecycle::new();
    let hints = Hinter::spawn(bus.clone(), Arc::new(SystemClock::new()), &lifecycle);
    hints.hint(100, 0);
    eventually("the first LOWER is executed", SOON, async || bus.lowered.load(Ordering::SeqCst).then_some(())).await;

    // A monitor marks, reads the database, and only then does the run of 200 get committed.
    let marked = bus.mark("m", 1).await.unwrap();
    hints.hint(200, 0);
    assert_eq!(hints.pending(), Some(100));
    bus.permits.as_ref().unwrap().add_permits(10);
    sent_all(&hints).await;

    let set = bus.set("m", marked.nonce, None).await.unwrap().unwrap();
    assert_eq!(set.next(), Some(200), "the hint of a later instant was taken for one already sent");
    lifecycle.stop();
    lifecycle.drained().await;
}

#[tokio::test]
async fn hints_sent_together_share_what_is_known_of_the_clock() {
    let bus = Arc::new(SlowAnswers { permits: Some(Semaphore::new(0)), ..SlowAnswers::default() });
    let lifecycle = Lifecycle::new();
    let hints = Hinter::spawn(bus.clone(), Arc::new(SystemClock::new()), &lifecycle);
    hints.hint(100, 0);
    eventually("the first LOWER is executed", SOON, async || bus.lowered.load(Ordering::SeqCst).then_some(())).await;
    let mut workers = bus.subscribe();
    assert!(matches!(workers.recv().await, Some(BusEvent::Connected(Some(_)))));

    hints.hint(600, 500); // told by its commit that 100 has passed
    hints.hint(550, 0);
    bus.permits.as_ref().unwrap().add_permits(10);
    sent_all(&hints).await;
    assert_eq!(workers.try_recv(), Some(BusEvent::Soon(550)));
    assert_eq!(workers.try_recv(), None, "one LOWER for both");
    lifecycle.stop();
    lifecycle.drained().await;
}

#[tokio::test]
async fn hints_of_draining_duties_are_flushed() {
    let bus = Arc::new(LocalBus::new());
    let lifecycle = Lifecycle::new();
    let hints = Hinter::spawn(bus.clone(), Arc::new(SystemClock::new()), &lifecycle);
    let stopping = lifecycle.stopping().clone();
    lifecycle.spawn("settles while draining", async move {
        stopping.cancelled().await;
        tokio::task::yield_now().await;
        hints.hint(300, 0);
    });
    lifecycle.stop();
    lifecycle.drained().await;
    assert_eq!(bus.read().await.unwrap().unwrap().next(), Some(300));
}

#[tokio::test]
async fn the_end_is_not_held_up_by_a_missing_redis() {
    let server = RedisServer::start_killed().await;
    let lifecycle = Lifecycle::new();
    let clock = Arc::new(SystemClock::new());
    let bus = RedisBus::connect(&server.url(), "end", clock.clone(), &lifecycle).unwrap();
    let hints = Hinter::spawn(Arc::new(bus), clock, &lifecycle);
    hints.hint(100, 0);
    lifecycle.stop();
    tokio::time::timeout(Duration::from_secs(3), lifecycle.drained()).await.unwrap();
    assert_eq!(hints.pending(), Some(100));
}

#[tokio::test]
async fn hints_given_while_redis_is_down_arrive_when_it_is_back() {
    let mut server = RedisServer::start_killed().await;
    let lifecycle = Lifecycle::new();
    let clock = Arc::new(SystemClock::new());
    let bus = Arc::new(RedisBus::connect(&server.url(), "down", clock.clone(), &lifecycle).unwrap());
    let hints = Hinter::spawn(bus.clone(), clock, &lifecycle);
    for at in [700, 500, 900] {
        hints.hint(at, 0);
    }
    assert!(bus.lower(800, 0).await.is_err());
    assert_eq!(hints.pending(), Some(500));
    server.restart().await;
    sent_all(&hints).await;
    assert_eq!(bus.read().await.unwrap().unwrap().next(), Some(500));
    lifecycle.stop();
    lifecycle.drained().await;
}
