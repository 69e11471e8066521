//! The embedded default as a user meets it: one process, SQLite, nothing else.

use std::path::Path;
use std::time::Duration;

use reveille_testkit::{Answer, Process, Receiver, eventually};
use serde_json::{Value, json};

use crate::cluster::{Client, SOON, document};

fn serve(data: &Path) -> Process {
    Process::builder(env!("CARGO_BIN_EXE_reveille"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .args([data])
        .with_ready_file()
        .start()
}

async fn client(process: &Process) -> Client {
    Client::new(&process.wait_ready(SOON).await.listen.expect("an API listener"))
}

/// The document of the product's contract, for a receiver of ours and every second of a minute.
fn contract_document(receiver: &Receiver) -> Value {
    json!({
        "name": "bbb",
        "client": {"operation": "op#1", "application": "chef", "group": "system", "key": "12345678", "type": "scheduler"},
        "type": "cron",
        "schedule": "*/2 * * * * *",
        "timezone": "Asia/Seoul",
        "task": {
            "type": "rest",
            "connection": {"host": receiver.url("/api/run/DELAY-TEST-9"),
                           "headers": {"Content-Type": "application/json", "Authorization": "Bearer s3cr3t-canary"}},
            "data": {"instanceName": "delay-test-999", "variables": {}},
            "history_check": false,
            "failed_policy": "retry",
            "retry_wait": 60
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_document_fires_at_the_right_second_and_again_after_a_restart() {
    let data = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start().await;
    let first = serve(data.path());
    let id = client(&first).await.register(&contract_document(&receiver)).await;
    receiver.wait_for(2, SOON).await;
    first.sigterm();
    assert!(first.wait_exit(SOON).await.success());
    let before = receiver.count();

    let second = serve(data.path());
    let api = client(&second).await;
    let deliveries = receiver.wait_for(before + 2, SOON).await;
    for delivery in &deliveries {
        let nominal = chrono::DateTime::parse_from_rfc3339(delivery.header("x-reveille-nominal-time")).expect("a time");
        assert_eq!(nominal.timestamp() % 2, 0, "on the even seconds");
        assert!(delivery.arrived_ms >= nominal.timestamp_millis(), "never early");
        assert_eq!(delivery.header("authorization"), "Bearer s3cr3t-canary", "the target gets the real header");
        assert_eq!(delivery.json(), json!({"instanceName": "delay-test-999", "variables": {}}));
    }
    let shown = api.get(&format!("/schedules/{id}")).await;
    assert_eq!(shown[0]["task"]["connection"]["headers"]["Authorization"], "***");
    for process in [&first, &second] {
        let output = process.stderr() + &process.stdout();
        assert!(!output.contains("s3cr3t-canary"), "a secret in the log:\n{output}");
    }
    // A client that has the schedule already keeps it.
    assert_eq!(api.register(&contract_document(&receiver)).await, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    const ROUNDS: usize = 4;
    let data = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start().await;
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let process = serve(data.path());
        let api = client(&process).await;
        let registering = async {
            for number in 0.. {
                let key = format!("r{round}n{number}");
                let far = document(&receiver, &key, "date", "2090-01-01T00:00:00");
                match api.try_register(&far).await {
                    Ok(answer) if answer.status() == 200 => {
                        let body: Result<Value, _> = answer.json().await;
                        let Ok(body) = body else { break };
                        acknowledged.push(body["id"].as_str().expect("an id").to_owned());
                    }
                    _ => break,
                }
            }
        };
        let killing = async {
            tokio::time::sleep(Duration::from_millis(150 + 60 * round as u64)).await; // the moment is what varies
            process.kill9();
        };
        tokio::join!(registering, killing);
    }
    assert!(acknowledged.len() > ROUNDS, "something was acknowledged before each kill: {}", acknowledged.len());
    let process = serve(data.path());
    let api = client(&process).await;
    for id in &acknowledged {
        let shown = api.get(&format!("/schedules/{id}")).await;
        assert_eq!(shown[0]["id"], id.as_str(), "{shown}");
        assert_eq!(shown[0]["task"]["status"], "idle", "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_flight_at_kill_9_comes_back() {
    let data = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start().await;
    receiver.script("/inflight", [Answer::ok().held(), Answer::ok()]);
    let quick = |data: &Path| {
        Process::builder(env!("CARGO_BIN_EXE_reveille"))
            .args(["serve", "--listen", "127.0.0.1:0", "--lease", "3s", "--recheck", "3s", "--data-dir"])
            .args([data])
            .with_ready_file()
            .start()
    };
    let first = quick(data.path());
    let id = client(&first).await.register(&document(&receiver, "inflight", "now", "")).await;
    eventually(SOON, "it is being called", || async { receiver.in_flight("/inflight") == 1 }).await;
    first.kill9();
    let second = quick(data.path());
    let run = client(&second).await.run_in_state(&id, "succeeded").await;
    assert_eq!(run["crashes"], 1);
    assert_eq!(receiver.deliveries_to("/inflight").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_long_stop_a_per_second_cron_fires_once_and_goes_on() {
    const STOP_MS: i64 = 2 * 3600 * 1000;
    let data = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start().await;
    let first = serve(data.path());
    let id = client(&first).await.register(&document(&receiver, "tick", "cron", "* * * * * *")).await;
    receiver.wait_for(1, SOON).await;
    first.sigterm();
    assert!(first.wait_exit(SOON).await.success());
    let before = receiver.count();
    // Two hours pass: what was armed then is two hours old now.
    let file = std::fs::read_dir(data.path())
        .expect("the data folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "db" || extension == "sqlite"))
        .expect("the database file");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display())).await.expect("open it");
    sqlx::query("UPDATE runs SET nominal_at = nominal_at - $1, due_at = due_at - $1")
        .bind(STOP_MS)
        .execute(&pool)
        .await
        .expect("age the runs");
    pool.close().await;

    let second = serve(data.path());
    let api = client(&second).await;
    receiver.wait_for(before + 3, SOON).await;
    let runs = api.runs(&id).await;
    let coalesced: Vec<i64> = runs.iter().filter_map(|run| run["coalesced"].as_i64()).filter(|n| *n > 60).collect();
    assert_eq!(coalesced.len(), 1, "one run stands for the whole stop: {runs:?}");
    assert!(coalesced[0] >= STOP_MS / 1000 - 60, "and says how many instants it stands for: {coalesced:?}");
}
