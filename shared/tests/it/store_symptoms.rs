//! What a store tells whoever asks what is amiss, on both databases.

use reveille_shared::model::run::{RunState, Successor};
use reveille_shared::store::{Registration, Symptoms};
use uuid::Uuid;

use crate::store_conformance::{Fixture, START, cron, finish, now, on_both, registration};

on_both! { tells_what_is_amiss }

async fn tells_what_is_amiss(f: Fixture) {
    assert_eq!(f.store.symptoms().await.unwrap(), Symptoms::default());
    let failing = f.register(registration("failing", "1", cron(START))).await;
    let recovered = f.register(registration("recovered", "1", cron(START))).await;
    f.register(registration("once", "1", now())).await;
    let dead = f.register(registration("dead", "1", now())).await;
    for queue in ["b", "a", "b"] {
        f.register(Registration {
            queue: queue.to_owned(),
            ..registration(&Uuid::now_v7().to_string(), "1", cron(START + 9))
        })
        .await;
    }
    for run in f.claim(10).await.runs {
        let is_recurring = [failing, recovered].contains(&run.schedule_id);
        let state = if run.schedule_id == dead { RunState::Dead } else { RunState::Failed };
        f.settle(&run, finish(state, is_recurring.then_some(Successor::At(START + 1_000)))).await;
    }
    let told = f.store.symptoms().await.unwrap();
    assert_eq!(told.queues, ["a", "b", "default"]);
    assert_eq!(told.dead, 1);
    let mut both = [failing, recovered];
    both.sort();
    let mut told = told.failing;
    told.sort();
    assert_eq!(told, both, "what has one occurrence is no schedule that fails");
    f.now.set(START + 1_000);
    for run in f.claim(10).await.runs {
        let state = if run.schedule_id == recovered { RunState::Succeeded } else { RunState::Failed };
        f.settle(&run, finish(state, Some(Successor::At(START + 2_000)))).await;
    }
    assert_eq!(f.store.symptoms().await.unwrap().failing, [failing]);
    f.store.schedule_pause(failing).await.unwrap();
    assert!(f.store.symptoms().await.unwrap().failing.is_empty());
}
