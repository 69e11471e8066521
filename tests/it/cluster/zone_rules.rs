//! Rules of time zones that change while everything runs: what is armed moves with its wall-clock time, fires once, and a
//! process with the old rules arms nothing back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reveille_testkit::{Process, Receiver, copy_zones, eventually_some, scratch_dir, tzdata};
use serde_json::{Value, json};

use super::{Client, Cluster, QUICK, SOON, document};

/// New rules are looked for every 15 s, and what those before computed may be on its way for 30 s.
const NOTICED: Duration = Duration::from_secs(120);

/// A release of the database in which Vancouver is so far behind UTC, all year round: an hour more or less is what a change
/// of the law makes, and here it makes it today.
fn release(package: &str, vancouver: &str) -> PathBuf {
    let dir = scratch_dir("zones");
    let release = tzdata(package);
    copy_zones(&release, &dir);
    fs::copy(release.join(vancouver), dir.join("America/Vancouver")).expect("another table for Vancouver");
    dir
}

fn old_rules() -> PathBuf {
    release("2025.2", "Etc/GMT+8")
}

/// As a package manager does it: file after file, the version last.
fn upgrade(dir: &Path) {
    let new = release("2026.6", "Etc/GMT+7");
    copy_zones(&new, dir);
    fs::copy(new.join("tzdata.zi"), dir.join("tzdata.zi")).expect("the version");
}

/// A daily schedule that fires at `at` by the new rules, and an hour later by the old.
fn daily(receiver: &Receiver, at: DateTime<Utc>) -> Value {
    let wall = at - TimeDelta::hours(7);
    let mut document = document(receiver, "daily", "cron", &wall.format("%-S %-M %-H * * *").to_string());
    document["timezone"] = json!("America/Vancouver");
    document["task"]["history_check"] = json!(true);
    document
}

fn soon() -> DateTime<Utc> {
    let now = reveille_shared::runtime::clock::wall_ms() / 1000;
    DateTime::from_timestamp(now + 75, 0).expect("an instant")
}

/// The instant for which a schedule is armed.
async fn armed(client: &Client, id: &str) -> i64 {
    client.get(&format!("/schedules/{id}")).await[0]["task"]["next"].as_i64().expect("it is armed")
}

/// The rules change, the daily schedule fires at the new time, and is armed by the new rules again.
async fn moves_and_fires_once(client: &Client, receiver: &Receiver, rules: &Path) {
    let at = soon();
    let id = client.register(&daily(receiver, at)).await;
    assert_eq!(armed(client, &id).await, at.timestamp() + 3600, "by the old rules");
    let mut dated = document(receiver, "dated", "date", "2089-12-24T18:00:00");
    dated["timezone"] = json!("America/Vancouver");
    let dated = client.register(&dated).await;
    let before = armed(client, &dated).await;
    upgrade(rules);

    let moved = eventually_some(NOTICED, "the run is moved", || async {
        let history = client.get(&format!("/schedules/{id}/history?kind=rearmed")).await;
        history.as_array().and_then(|entries| entries.first().cloned())
    })
    .await;
    let shown = |at: DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let detail = format!("moved from {} to {}", shown(at + TimeDelta::hours(1)), shown(at));
    assert!(moved["detail"].as_str().is_some_and(|text| text.starts_with(&detail)), "{moved}");
    assert!(moved["detail"].as_str().is_some_and(|text| text.ends_with("2026f")), "{moved}");

    let deliveries = receiver.wait_for(1, NOTICED).await;
    assert!(deliveries[0].arrived_ms >= at.timestamp_millis(), "not early");
    let tomorrow = at.timestamp() + 86_400;
    eventually_some(SOON, "it is armed by the new rules", || async {
        (armed(client, &id).await == tomorrow).then_some(())
    })
    .await;
    assert_eq!(armed(client, &dated).await, before - 3600, "a local date is its wall-clock time");
    assert_eq!(client.get("/timezones").await["version"], "2026f");
    assert_eq!(receiver.count(), 1, "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_follows_new_rules_and_an_old_worker_arms_nothing_back() {
    let (rules, old) = (old_rules(), old_rules());
    let by = |rules: &Path| [QUICK, &["--tzdata", rules.to_str().expect("a path")]].concat().join("\n");
    let (new, old) = (by(&rules), by(&old));
    let new: Vec<&str> = new.split('\n').collect();
    let old: Vec<&str> = old.split('\n').collect();
    let cluster = Cluster::start(&new).await;
    let _monitor = cluster.monitor(&new).await;
    let _worker = cluster.worker(&old).await;
    moves_and_fires_once(&cluster.client, &cluster.receiver, &rules).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_sqlite_follows_new_rules() {
    let (rules, data, receiver) = (old_rules(), scratch_dir("zone-rules"), Receiver::start().await);
    let process = Process::builder(env!("CARGO_BIN_EXE_reveille"))
        .args(["serve", "--listen", "127.0.0.1:0", "--recheck", "2s", "--data-dir"])
        .args([&data])
        .args(["--tzdata", rules.to_str().expect("a path")])
        .with_ready_file()
        .start();
    let client = Client::new(&process.wait_ready(SOON).await.listen.expect("an API listener"));
    moves_and_fires_once(&client, &receiver, &rules).await;
}

#[tokio::test]
async fn what_is_no_time_zone_database_ends_the_start_in_words() {
    let empty = scratch_dir("no-zones");
    let process = Process::builder(env!("CARGO_BIN_EXE_reveille"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .args([&empty])
        .args(["--tzdata", empty.to_str().expect("a path")])
        .start();
    assert!(!process.wait_exit(SOON).await.success());
    assert!(process.stderr().contains("is no time zone database"), "{}", process.stderr());
}
