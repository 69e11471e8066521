//! Registrations that arrive together share a commit; each is answered for itself. On both databases.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::future::{join, join_all};
use futures_util::poll;
use reveille_api::{Problem, Service, Settings};
use reveille_shared::model::ScheduleId;
use reveille_testkit::eventually;
use serde_json::{Value, json};

use crate::graphql;
use crate::support::{Api, START, document};

const SOON: Duration = Duration::from_secs(10);
const MINUTE: i64 = 60_000;

/// Statements in flight at a time.
const LANES: usize = 2;

macro_rules! on_both {
    ($($body:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test] async fn $body() { super::$body(crate::support::Api::start().await).await; })* }
        mod postgres {
            $(#[tokio::test] async fn $body() { super::$body(crate::support::Api::start_on_postgres().await).await; })*
        }
    };
}

on_both! {
    those_that_arrive_together_share_a_commit,
    both_surfaces_share_it,
    one_that_is_refused_is_written_alone,
    of_one_client_key_the_later_wins,
    one_alone_is_one_statement,
    a_calendar_believes_a_clock_that_was_heard_lately,
    what_was_sent_is_hinted_though_nobody_waits,
    what_was_not_sent_is_dropped_when_nobody_waits,
    a_database_that_is_away_is_answered_to_each,
    a_stop_waits_for_what_is_in_flight,
}

type Call<'a> = Pin<Box<dyn Future<Output = Result<ScheduleId, Problem>> + 'a>>;

fn service(api: &Api) -> Service {
    Service::new(api.context.clone(), &Settings::default())
}

/// A registration that nobody has begun yet.
fn call<'a>(service: &'a Service, document: &Value) -> Call<'a> {
    let body = document.to_string();
    Box::pin(async move { service.register(body.as_bytes(), false).await.map(|registered| registered.id) })
}

fn delayed(key: &str) -> Value {
    document(key, "delay", "50")
}

/// Begins it, so that it is sent or waits to be.
async fn begin(call: &mut Call<'_>) {
    assert!(poll!(call.as_mut()).is_pending());
    tokio::task::yield_now().await;
}

/// Registrations that occupy all lanes at this point, until it is let go: what begins now waits.
async fn occupy<'a>(service: &'a Service, held: &reveille_shared::runtime::fault::Held) -> Vec<Call<'a>> {
    let mut calls = Vec::new();
    for lane in 1..=LANES {
        let mut filler = call(service, &delayed(&format!("lane {lane}")));
        begin(&mut filler).await;
        held.reached(lane).await;
        calls.push(filler);
    }
    calls
}

async fn all(calls: Vec<Call<'_>>) -> Vec<ScheduleId> {
    join_all(calls).await.into_iter().map(Result::unwrap).collect()
}

async fn next_ms(api: &Api) -> Option<i64> {
    api.bus.read().await.unwrap().and_then(|state| state.next())
}

async fn those_that_arrive_together_share_a_commit(api: Api) {
    let service = service(&api);
    let held = api.faults.hold("api.registering");
    let mut calls = occupy(&service, &held).await;
    for number in LANES..64 {
        let mut one = call(&service, &delayed(&number.to_string()));
        begin(&mut one).await;
        calls.push(one);
    }
    let before = api.store.statements();
    drop(held);
    let ids = all(calls).await;
    assert_eq!(api.store.statements() - before, LANES as u64 + 1);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 64);
    for (number, id) in ids.iter().enumerate().skip(LANES) {
        let shown = api.shown(&id.to_string()).await;
        assert_eq!(shown["client"]["key"], number.to_string());
    }
}

async fn both_surfaces_share_it(api: Api) {
    const REGISTER: &str = "mutation($document: JSON) { registerSchedule(document: $document) { id } }";
    api.get("/schedules").await; // whoever asks is known by now
    let held = api.faults.hold("api.registering");
    let before = api.store.statements();
    let api = &api;
    let by_rest = join_all((0..16).map(|number| async move { api.register(&delayed(&format!("r{number}"))).await }));
    let by_graphql = join_all((0..16).map(|number| async move {
        let answer = graphql::ask(api, REGISTER, json!({"document": delayed(&format!("g{number}"))})).await;
        answer.json["data"]["registerSchedule"]["id"].as_str().unwrap().to_owned()
    }));
    let mut answers = Box::pin(join(by_rest, by_graphql));
    for _ in 0..100 {
        assert!(poll!(answers.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    drop(held);
    let (by_rest, by_graphql) = answers.await;
    assert_eq!(by_rest.iter().chain(&by_graphql).collect::<HashSet<_>>().len(), 32);
    let statements = api.store.statements() - before;
    assert!(statements <= LANES as u64 + 1, "{statements} statements");
}

/// The instant that this process takes for the next one was run already.
async fn one_that_is_refused_is_written_alone(api: Api) {
    let service = service(&api);
    let (cron, mut changed) = (document("1", "cron", "0 * * * * *"), document("1", "cron", "0 * * * * *"));
    changed["task"]["data"] = json!({"a": 2});
    let id = call(&service, &cron).await.unwrap();
    api.now.advance(MINUTE); // this process does not hear of it
    assert_eq!(api.claim().await.len(), 1);

    let held = api.faults.hold("api.registering");
    let mut calls = occupy(&service, &held).await;
    for document in [delayed("2"), changed, delayed("3")] {
        let mut one = call(&service, &document);
        begin(&mut one).await;
        calls.push(one);
    }
    let before = api.store.statements();
    drop(held);
    let ids = all(calls).await;
    // The batch is refused and explained, each is sent again, and the one at fault with a later instant.
    let statements = api.store.statements() - before;
    let sent = LANES as u64 + 1 + 3 + 1;
    assert!((sent..=sent + 2).contains(&statements), "{statements} statements");
    assert_eq!(ids[LANES + 1], id);
    for (id, next) in [(ids[LANES], MINUTE + 50_000), (id, 2 * MINUTE), (ids[LANES + 2], MINUTE + 50_000)] {
        assert_eq!(api.shown(&id.to_string()).await["task"]["next"], (START + next) / 1000);
    }
}

async fn of_one_client_key_the_later_wins(api: Api) {
    let service = service(&api);
    let named = |name: &str, delay: &str| {
        let mut document = document("1", "delay", delay);
        document["name"] = json!(name);
        document
    };
    let held = api.faults.hold("api.registering");
    let mut calls = occupy(&service, &held).await;
    for (name, delay) in [("first", "70"), ("second", "60"), ("third", "80")] {
        let mut one = call(&service, &named(name, delay));
        begin(&mut one).await;
        calls.push(one);
    }
    drop(held);
    let ids = all(calls).await;
    assert_eq!(ids[LANES..].iter().collect::<HashSet<_>>().len(), 1);
    let shown = api.shown(&ids[LANES].to_string()).await;
    assert_eq!((&shown["name"], &shown["task"]["next"]), (&json!("third"), &json!(START / 1000 + 80)));
    assert_eq!(api.store.schedule_get(ids[LANES]).await.unwrap().unwrap().revision, 3);
}

async fn one_alone_is_one_statement(api: Api) {
    let service = service(&api);
    let cost = async |document: &Value| {
        let before = api.store.statements();
        call(&service, document).await.unwrap();
        api.store.statements() - before
    };
    let cron = document("cron", "cron", "0 * * * * *");
    assert_eq!(cost(&cron).await, 2, "it asks what time it is");
    for (kind, schedule) in [("cron", "@daily"), ("now", ""), ("date", "2030-01-01T00:00:00"), ("delay", "50")] {
        assert_eq!(cost(&document(kind, kind, schedule)).await, 1, "{kind}");
    }
    let date = document("date", "date", "2030-01-01T00:00:00");
    for unchanged in [&document("cron", "cron", "@daily"), &date] {
        assert_eq!(cost(unchanged).await, 1, "unchanged");
    }
    api.pass(Duration::from_secs(10));
    assert_eq!(cost(&cron).await, 2, "it asks again after a while");
    for other in [&date, &cron, &cron] {
        api.pass(Duration::from_millis(9999));
        assert_eq!(cost(other).await, 1, "what is answered meanwhile tells of the clock");
    }
}

async fn a_calendar_believes_a_clock_that_was_heard_lately(api: Api) {
    let service = service(&api);
    let next = async |key: &str| {
        let before = api.store.statements();
        let id = call(&service, &document(key, "cron", "0 * * * * *")).await.unwrap();
        let asked = api.store.statements() - before - 1;
        (asked, api.shown(&id.to_string()).await["task"]["next"].as_i64().unwrap() - START / 1000)
    };
    // Heard from an answer: of the API's own accord it would not even know the year.
    call(&service, &delayed("1")).await.unwrap();
    assert_eq!(next("2").await, (0, 60));
    // Set on, and not heard of yet: the instant it skipped is due at once, and from the answer on it is known.
    api.now.advance(10 * MINUTE);
    assert_eq!(next("3").await, (0, 600));
    assert_eq!(next("4").await, (0, 660));
    // Set back: the answer tells of it.
    api.now.advance(-5 * MINUTE);
    assert_eq!(next("5").await, (0, 660));
    assert_eq!(next("6").await, (0, 360));
    // By so little that no answer tells of it: it is asked after a while.
    api.now.advance(-500);
    assert_eq!(next("7").await, (0, 360));
    api.pass(Duration::from_millis(10_001));
    assert_eq!(next("8").await, (1, 360));
    assert_eq!(api.context.clock.now_ms(), api.now.get());
}

async fn what_was_sent_is_hinted_though_nobody_waits(api: Api) {
    let service = service(&api);
    for point in ["api.registering", "api.committed"] {
        let held = api.faults.hold(point);
        let mut gone = call(&service, &delayed(point));
        begin(&mut gone).await;
        held.reached(1).await;
        drop(gone);
        drop(held);
        eventually(SOON, "it is hinted", || async { next_ms(&api).await == Some(START + 50_000) }).await;
        assert_eq!(api.get(&format!("/schedules?key={point}")).await.json.as_array().unwrap().len(), 1);
        let marked = api.bus.mark("monitor", 1).await.unwrap();
        api.bus.set("monitor", marked.nonce, None).await.unwrap();
    }
}

async fn what_was_not_sent_is_dropped_when_nobody_waits(api: Api) {
    let service = service(&api);
    let held = api.faults.hold("api.registering");
    let mut calls = occupy(&service, &held).await;
    let mut gone = call(&service, &document("gone", "now", ""));
    begin(&mut gone).await;
    let mut stays = call(&service, &delayed("stays"));
    begin(&mut stays).await;
    calls.push(stays);
    drop(gone);
    drop(held);
    all(calls).await;
    assert_eq!(api.get("/schedules?key=gone").await.status, StatusCode::NOT_FOUND);
    eventually(SOON, "the others are hinted", || async { next_ms(&api).await == Some(START + 50_000) }).await;
}

async fn a_database_that_is_away_is_answered_to_each(api: Api) {
    let service = service(&api);
    call(&service, &delayed("1")).await.unwrap(); // the clock is known
    let held = api.faults.hold("api.registering");
    let mut calls = occupy(&service, &held).await;
    for number in 0..32 {
        let mut one = call(&service, &document(&number.to_string(), "delay", &(10 + number).to_string()));
        begin(&mut one).await;
        calls.push(one);
    }
    api.store.close().await;
    let before = api.store.statements();
    drop(held);
    for outcome in join_all(calls).await {
        let problem = outcome.unwrap_err();
        assert_eq!((problem.status, problem.code), (503, "database_unavailable"));
    }
    let statements = api.store.statements() - before;
    assert!(statements <= LANES as u64 + 1, "{statements} statements");
    eventually(SOON, "all are in doubt", || async { next_ms(&api).await == Some(START + 10_000) }).await;
}

async fn a_stop_waits_for_what_is_in_flight(api: Api) {
    let service = service(&api);
    let held = api.faults.hold("api.registering");
    let mut calls = occupy(&service, &held).await;
    let mut waiting = call(&service, &document("1", "delay", "10"));
    begin(&mut waiting).await;
    calls.push(waiting);
    api.lifecycle.stop();
    let mut drained = Box::pin(api.lifecycle.drained());
    assert!(poll!(drained.as_mut()).is_pending());
    drop(held);
    drained.await;
    assert_eq!(next_ms(&api).await, Some(START + 10_000), "the hints went out");
    assert_eq!(all(calls).await.len(), LANES + 1);
}
