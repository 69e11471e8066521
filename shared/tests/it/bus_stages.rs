//! Stages of runs over both carriers: who hears them, and what a lost bus costs.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::bus::local::LocalBus;
use reveille_shared::bus::redis::RedisBus;
use reveille_shared::bus::stage::{RunStage, Stage, StageNews, StageWatch};
use reveille_shared::bus::{Bus, BusEvent, Subscription};
use reveille_shared::model::run::RunState;
use reveille_shared::runtime::clock::SystemClock;
use reveille_shared::runtime::lifecycle::Lifecycle;
use uuid::Uuid;

use crate::redis_server::RedisServer;

const SOON: Duration = Duration::from_secs(20);

fn stage(attempt: i32) -> RunStage {
    RunStage {
        run_id: Uuid::now_v7(),
        schedule_id: Uuid::now_v7(),
        application: "chef, \"ö\"".to_owned(),
        group: String::new(),
        attempt,
        stage: Stage::RetryArmed,
        state: RunState::Pending,
        outcome: Some("http_status".to_owned()),
        at: 1_800_000_000_000,
    }
}

async fn news(watch: &mut StageWatch) -> StageNews {
    tokio::time::timeout(SOON, watch.recv()).await.unwrap().unwrap()
}

async fn wanted(workers: &mut Subscription) {
    while tokio::time::timeout(SOON, workers.recv()).await.unwrap() != Some(BusEvent::StagesWanted) {}
}

/// Tells a stage again and again until a watcher whose subscription is on its way hears one.
async fn heard(bus: &dyn Bus, watch: &mut StageWatch) {
    let stages = [stage(0)];
    loop {
        let _ = bus.stages_tell(&stages).await;
        match tokio::time::timeout(Duration::from_millis(20), watch.recv()).await {
            Ok(Some(StageNews::Told(told))) => return assert_eq!(told[..], stages),
            Ok(Some(StageNews::Gap)) | Err(_) => {}
            Ok(None) => panic!("the bus is gone"),
        }
    }
}

async fn carries(bus: &dyn Bus) {
    let mut workers = bus.subscribe();
    assert!(matches!(tokio::time::timeout(SOON, workers.recv()).await, Ok(Some(BusEvent::Connected(_)))));
    bus.stages_tell(&[stage(1)]).await.unwrap(); // to nobody
    bus.stages_want().await.unwrap();
    bus.stages_want().await.unwrap();
    wanted(&mut workers).await;
    let mut watch = bus.stages_watch();
    tokio::time::timeout(SOON, heard(bus, &mut watch)).await.unwrap();
    let mut another = watch.another();
    let batch = [stage(2), stage(3)];
    bus.stages_tell(&batch).await.unwrap();
    for watch in [&mut watch, &mut another] {
        while news(watch).await != StageNews::Told(batch.clone().into()) {}
    }
}

#[tokio::test]
async fn the_local_bus_carries_stages() {
    carries(&LocalBus::new()).await;
}

#[tokio::test]
async fn redis_carries_stages_and_what_was_lost_is_said_to_be() {
    let mut server = RedisServer::start().await;
    let lifecycle = Lifecycle::new();
    let bus = RedisBus::connect(&server.url(), "stages", Arc::new(SystemClock::new()), &lifecycle).unwrap();
    carries(&bus).await;

    let mut watch = bus.stages_watch();
    tokio::time::timeout(SOON, heard(&bus, &mut watch)).await.unwrap();
    server.command(&["PUBLISH", "{stages}:stages", "[{\"of another version\":1}]"]).await;
    while news(&mut watch).await != StageNews::Gap {}
    server.kill();
    assert_eq!(news(&mut watch).await, StageNews::Gap);
    assert!(bus.stages_tell(&[stage(4)]).await.is_err());
    server.restart().await;
    tokio::time::timeout(SOON, heard(&bus, &mut watch)).await.unwrap();

    lifecycle.stop();
    lifecycle.drained().await;
    while watch.recv().await.is_some() {}
}
