//! Keys as their operator and their holders meet them: the command line, the API, and what must not be found anywhere.

use std::path::Path;
use std::process::{Command, Output};

use reveille_testkit::Process;
use serde_json::json;

use crate::cluster::SOON;

fn key(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reveille"));
    command.arg("key").args(args).arg("--data-dir").arg(data).output().expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn line(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_what_it_was_made_for_and_is_found_nowhere() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let data = tempfile::tempdir().expect("a folder");
    // A command in the wrong folder finds nothing, and makes nothing unless asked to.
    let nothing = key(data.path(), &["list"]);
    assert!(!nothing.status.success() && std::fs::read_dir(data.path()).expect("a folder").next().is_none());
    assert!(said(&nothing).contains("there is no database at"), "{}", said(&nothing));
    let first = key(data.path(), &["create", "--scope", "write", "--application", "chef", "--name", "kitchen"]);
    for told in ["making a new database at", "it is the first", "within 30 seconds"] {
        assert!(said(&first).contains(told), "{}", said(&first));
    }
    let chef = line(&first);
    let spent = line(&key(data.path(), &["create", "--scope", "admin", "--expires", "1ms"]));
    let third = key(data.path(), &["create", "--scope", "admin"]);
    assert!(!said(&third).contains("first") && !said(&third).contains("new database"), "{}", said(&third));
    let revoked = line(&third);
    let id = revoked.split('_').nth(1).expect("an id").to_owned();
    assert!(key(data.path(), &["revoke", &id]).status.success());
    assert!(!key(data.path(), &["revoke", &id]).status.success());

    let process = Process::builder(env!("CARGO_BIN_EXE_reveille"))
        .args(["serve", "--listen", "0.0.0.0:0", "--log-level", "trace", "--data-dir"])
        .args([data.path()])
        .with_ready_file()
        .start();
    let listen = process.wait_ready(SOON).await.listen.expect("a listener").replace("0.0.0.0", "127.0.0.1");
    let http = reqwest::Client::new();
    let register = |key: Option<String>, application: &str| {
        let document = json!({
            "name": "n", "client": {"application": application, "key": "1"}, "type": "date", "schedule": "2090-01-01T00:00:00",
            "task": {"type": "rest", "connection": {"host": "http://127.0.0.1:9/"}}
        });
        let mut request = http.post(format!("http://{listen}/schedules")).json(&document);
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        async move { request.send().await.expect("an answer").status().as_u16() }
    };
    assert_eq!(register(Some(chef.clone()), "chef").await, 200);
    assert_eq!(register(Some(chef.clone()), "bakery").await, 403);
    for refused in [
        None,
        Some(spent.clone()),
        Some(revoked.clone()),
        Some(chef.replace(&chef[60..], &"0".repeat(chef.len() - 60))),
    ] {
        assert_eq!(register(refused.clone(), "chef").await, 401, "{refused:?}");
    }

    assert!(process.stderr().contains("a caller without a key was refused (401)"), "{}", process.stderr());

    let listed = line(&key(data.path(), &["list"]));
    for state in ["kitchen", "valid", "expired", "revoked"] {
        assert!(listed.contains(state), "{listed}");
    }
    let metrics = reqwest::get(format!("http://{listen}/metrics")).await.expect("metrics").text().await.expect("text");
    let log = process.stderr() + &process.stdout();
    let mut stored = Vec::new();
    for entry in std::fs::read_dir(data.path()).expect("a folder") {
        stored.extend(std::fs::read(entry.expect("a file").path()).expect("bytes"));
    }
    let stored = String::from_utf8_lossy(&stored).into_owned();
    for key in [&chef, &spent, &revoked] {
        let secret = key.rsplit('_').next().expect("a secret");
        for (place, text) in [("list", &listed), ("metrics", &metrics), ("log", &log), ("database", &stored)] {
            assert!(!text.contains(secret), "a secret is in the {place}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_can_reach_is_not_served_without_a_key() {
    let data = tempfile::tempdir().expect("a folder");
    let serve = |more: &'static [&'static str]| {
        let builder = Process::builder(env!("CARGO_BIN_EXE_reveille"));
        builder
            .args(["serve", "--listen", "0.0.0.0:0", "--data-dir"])
            .args([data.path()])
            .args(more)
            .with_ready_file()
            .start()
    };
    let refused = serve(&[]);
    assert!(!refused.wait_exit(SOON).await.success());
    assert!(refused.stderr().contains("make a key with `reveille key create`"), "{}", refused.stderr());
    serve(&["--insecure-listen"]).wait_ready(SOON).await;
    assert!(key(data.path(), &["create", "--scope", "read"]).status.success());
    serve(&[]).wait_ready(SOON).await;
}
