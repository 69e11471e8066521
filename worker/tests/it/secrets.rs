//! Sealed secrets at the worker: delivered as they were, postponed without the key, and shown to no target.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_shared::model::schedule::Definition;
use reveille_shared::runtime::seal::Sealer;
use reveille_testkit::eventually_some;
use reveille_worker::{Secrets, Settings};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::fixture::{Fixture, LONG, settings};

const CANARY: &str = "canary-b44e";
const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn sealer(keys: &[&str]) -> Sealer {
    Sealer::new(keys.iter().map(|key| key.parse().unwrap()).collect(), Default::default())
}

fn with_key() -> Settings {
    Settings { sealer: sealer(&[KEY]), ..settings() }
}

/// A document whose secrets are sealed, as the API stores it.
fn sealed(fixture: &Fixture, more: Value) -> Value {
    let mut document = fixture.document("now", "", "/sealed", more);
    document["task"]["connection"]["headers"] = json!({"Authorization": CANARY, "X-Plain": "seen"});
    let mut definition: Definition = serde_json::from_value(document).unwrap();
    sealer(&[KEY]).seal(&mut definition).unwrap();
    let sealed = serde_json::to_value(&definition).unwrap();
    assert!(!sealed.to_string().contains(CANARY));
    sealed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_header_reaches_the_target_as_it_was() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(with_key());
    let id = fixture.register(&[sealed(&fixture, json!({}))]).await[0];
    fixture.run_in(id, RunState::Succeeded).await;
    let delivery = fixture.receiver.deliveries_to("/sealed").remove(0);
    assert_eq!(delivery.header("authorization"), CANARY);
    assert_eq!(delivery.header("x-plain"), "seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_key_leaves_the_run_to_others() {
    let fixture = Fixture::new().await;
    let without = fixture.worker(settings());
    let id = fixture.register(&[sealed(&fixture, json!({}))]).await[0];
    let postponed = eventually_some(LONG, "the run is postponed", || async {
        fixture.runs(id).await.into_iter().find(|run| run.outcome.is_some())
    });
    let run = postponed.await;
    assert_eq!((run.state, run.outcome), (RunState::Pending, Some(OutcomeCode::Refused)));
    assert!(run.detail.unwrap().contains("sealed under key 72cd6e84"));
    assert_eq!(without.metric("worker_secrets_unopened_total", ""), 1.0);
    assert_eq!(fixture.receiver.deliveries_to("/sealed").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_receives_the_document_receives_no_secret() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(with_key());
    let wants_all = json!({"connection": {"body": "schedule"}, "data": {"n": 1.0}});
    let mut clear = fixture.document("now", "", "/clear", wants_all.clone());
    clear["task"]["connection"]["headers"] = json!({"Authorization": CANARY});
    let mut document = sealed(&fixture, json!({}));
    document["task"]["connection"]["body"] = json!("schedule");
    let ids = fixture.register(&[document, clear]).await;
    for (id, path) in ids.into_iter().zip(["/sealed", "/clear"]) {
        fixture.run_in(id, RunState::Succeeded).await;
        let delivery = fixture.receiver.deliveries_to(path).remove(0);
        assert_eq!(delivery.header("authorization"), CANARY, "{path}");
        let body = delivery.json().to_string();
        assert!(!body.contains(CANARY) && !body.contains("sealed.v1"), "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["id"], &body["task"]["connection"]["headers"]["Authorization"]), (&json!(id), &json!("***")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_document_and_its_application_refer_to_is_sent_and_signs() {
    let fixture = Fixture::new().await;
    let folder = tempfile::tempdir().unwrap();
    let chef = folder.path().join("chef");
    std::fs::create_dir_all(&chef).unwrap();
    std::fs::write(chef.join("token"), format!("{CANARY}\n")).unwrap();
    std::fs::write(chef.join("webhook-signing"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let secrets = Secrets { dir: Some(folder.path().to_owned()), ..Secrets::default() };
    let _worker = fixture.worker(Settings { secrets, ..settings() });
    let by = |application: &str, path: &str| {
        let mut document = fixture.document("now", "", path, json!({"data": {"n": 1}}));
        document["client"]["application"] = json!(application);
        document["task"]["connection"]["headers"] = json!({"Authorization": "Bearer secret://token"});
        document
    };
    let id = fixture.register(&[by("chef", "/chef")]).await[0];
    let (run, _) = fixture.run_in(id, RunState::Succeeded).await;
    let delivery = fixture.receiver.deliveries_to("/chef").remove(0);
    assert_eq!(delivery.header("authorization"), format!("Bearer {CANARY}"));
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()).unwrap();
    mac.update(format!("{}.{}.", run.id, delivery.header("webhook-timestamp")).as_bytes());
    mac.update(&delivery.body);
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(delivery.header("webhook-signature"), signature);

    // Nobody else's.
    let id = fixture.register(&[by("baker", "/baker")]).await[0];
    let (run, _) = fixture.run_in(id, RunState::Failed).await;
    assert_eq!(run.outcome, Some(OutcomeCode::Connect));
    assert_eq!(run.detail.as_deref(), Some("the secret `token` is not known to this worker"));
    // It may come by the next attempt.
    std::fs::write(folder.path().join("token"), "shared").unwrap();
    let id = fixture.register(&[by("baker", "/baker")]).await[0];
    fixture.run_in(id, RunState::Succeeded).await;
    let delivery = fixture.receiver.deliveries_to("/baker").remove(0);
    assert_eq!((delivery.header("authorization"), delivery.header("webhook-signature")), ("Bearer shared", ""));
    // A request that should be signed and cannot be is not made.
    std::fs::write(chef.join("webhook-signing"), CANARY).unwrap();
    let id = fixture.register(&[by("chef", "/unsigned")]).await[0];
    let (run, _) = fixture.run_in(id, RunState::Failed).await;
    assert!(!run.detail.unwrap().contains(CANARY));
    assert_eq!(fixture.receiver.deliveries_to("/unsigned").len(), 0);
}
