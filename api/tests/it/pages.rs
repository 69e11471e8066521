//! Pages of schedules and of runs.

use std::collections::HashSet;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use reveille_shared::model::document::{self, Defaults};
use reveille_shared::model::run::{OutcomeCode, RunState, Successor};
use reveille_shared::model::task::TaskKind;
use reveille_shared::store::Registration;
use uuid::Uuid;

use crate::support::{Answer, Api, START, document, finish};

fn next(answer: &Answer) -> Option<String> {
    let link = answer.headers.get("link")?.to_str().unwrap();
    let target = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
    Some(target.to_owned())
}

async fn walk(api: &Api, first: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut path = Some(first.to_owned());
    while let Some(current) = path {
        let answer = api.get(&current).await;
        assert_eq!(answer.status, StatusCode::OK, "{current}: {}", answer.json);
        ids.extend(answer.json.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        path = next(&answer);
    }
    ids
}

#[tokio::test]
async fn a_list_is_complete_unless_a_page_is_asked_for() {
    let api = Api::start().await;
    for number in 0..7 {
        api.register(&document(&number.to_string(), "cron", "@daily")).await;
    }
    assert_eq!(api.get("/schedules").await.json.as_array().unwrap().len(), 7);
    for limit in [1, 3, 7, 200] {
        let ids = walk(&api, &format!("/schedules?application=chef&limit={limit}")).await;
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 7, "limit {limit}: {ids:?}");
        assert_eq!(ids.len(), 7, "limit {limit}");
    }
}

#[tokio::test]
async fn runs_are_paged_newest_first() {
    let api = Api::start().await;
    let id = api.register(&document("1", "cron", "0 * * * * *")).await;
    for minute in 1..=5 {
        api.pass(Duration::from_secs(60));
        let run = api.claim().await.remove(0);
        let successor = Successor::At(START + (minute + 1) * 60_000);
        api.settle(&run, finish(RunState::Succeeded, OutcomeCode::Ok, Some(successor))).await;
    }
    let whole = walk(&api, &format!("/schedules/{id}/runs")).await;
    assert_eq!(whole.len(), 6);
    assert_eq!(walk(&api, &format!("/schedules/{id}/runs?limit=2")).await, whole);
    let newest = api.get(&format!("/runs/{}", whole[0])).await.json;
    assert_eq!(newest["state"], "pending");
}

/// Registers so many schedules in one commit.
async fn register_many(api: &Api, count: usize) {
    let defaults =
        Defaults { timezone: "UTC".to_owned(), targets: vec![TaskKind::Rest], connections: Default::default() };
    let registration = |number: usize| {
        let document = document(&number.to_string(), "cron", "@daily").to_string();
        let parsed = document::parse(document.as_bytes(), &defaults, true).unwrap();
        Registration {
            id: Uuid::now_v7(),
            client: parsed.definition.client.clone(),
            name: parsed.definition.name.clone(),
            payload: serde_json::to_string(&parsed.definition).unwrap(),
            fingerprint: document::fingerprint(&parsed.definition),
            queue: parsed.definition.queue.clone(),
            priority: 0,
            arming: parsed.timing.arming(START).unwrap(),
            run_id: Uuid::now_v7(),
            history_check: false,
        }
    };
    api.store.schedule_upsert(&(0..count).map(registration).collect::<Vec<_>>()).await.unwrap();
}

/// Longer than two pages of the store, so that it is written piece by piece.
const LONG: usize = 1234;

#[tokio::test]
async fn a_long_list_is_complete() {
    let api = Api::start().await;
    register_many(&api, LONG).await;
    for path in ["/schedules", "/schedules?state=idle", "/schedules?application=chef&state=all"] {
        let answer = api.get(path).await;
        assert_eq!(answer.headers["content-type"], "application/json", "{path}");
        let ids: HashSet<&str> =
            answer.json.as_array().unwrap().iter().map(|shown| shown["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), LONG, "{path}");
    }
    let ids = walk(&api, "/schedules?limit=200").await;
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), LONG);
    assert_eq!(ids.len(), LONG);
    for empty in ["/schedules?state=done", "/schedules?state=paused&limit=10"] {
        assert_eq!(api.get(empty).await.status, StatusCode::NOT_FOUND, "{empty}");
    }
}

#[tokio::test]
async fn a_page_with_a_status_is_found_beyond_what_does_not_have_it() {
    let api = Api::start().await;
    register_many(&api, LONG).await;
    let late = api.register(&document("late", "now", "")).await;
    assert_eq!(api.claim().await.len(), 1);
    assert_eq!(walk(&api, "/schedules?state=processing&limit=1").await, [late]);
    assert_eq!(walk(&api, "/schedules?state=idle&limit=200").await.len(), LONG);
}

#[tokio::test]
async fn a_list_that_breaks_off_is_not_taken_for_a_whole_one() {
    let api = Api::start().await;
    register_many(&api, LONG).await;
    let response = api.begin(Request::get("/schedules").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    api.store.close().await;
    assert!(to_bytes(response.into_body(), usize::MAX).await.is_err());
}
