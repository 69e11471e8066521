//! Pages of schedules and of runs.

use std::collections::HashSet;
use std::time::Duration;

use axum::http::StatusCode;
use reveille_shared::model::run::{OutcomeCode, RunState, Successor};

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
