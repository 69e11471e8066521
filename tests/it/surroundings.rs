//! The embedded default when what is around it misbehaves: nobody reads its log, the disk is full, a page lies about its
//! name, the file is copied alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use reveille_testkit::{Process, ProcessBuilder, Ready, Receiver, eventually};
use serde_json::json;

use crate::cluster::{Client, SOON, document};

/// `script` is run by a shell, with the process as `"$@"`.
fn within(script: &str, data: &Path) -> ProcessBuilder {
    Process::builder("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_reveille"), "serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .args([data])
        .with_ready_file()
}

/// A process below a shell, which does not end with it.
struct Below {
    ready: Ready,
    _shell: Process,
}

impl Below {
    async fn start(process: ProcessBuilder) -> Self {
        let shell = process.start();
        Self { ready: shell.wait_ready(SOON).await, _shell: shell }
    }

    fn client(&self) -> Client {
        Client::new(self.ready.listen.as_deref().expect("an API listener"))
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        Command::new("kill").args(["-9", &self.ready.pid.to_string()]).status().ok();
    }
}

async fn fires_on(below: &Below, receiver: &Receiver) {
    below.client().register(&document(receiver, "tick", "cron", "* * * * * *")).await;
    let before = receiver.count();
    receiver.wait_for(before + 3, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_reader_went_away_or_sleeps_stops_nothing() {
    for reader in [r#""$@" --log-level debug 2>&1 | head -n 1"#, r#""$@" --log-level trace 2>&1 | sleep 30"#] {
        let data = tempfile::tempdir().expect("a folder");
        let receiver = Receiver::start().await;
        let below = Below::start(within(reader, data.path())).await;
        fires_on(&below, &receiver).await;
        if reader.contains("sleep") {
            continue; // it takes long to fill what lies between
        }
        eventually(SOON, "lines are dropped", || async {
            let text = below.client().text("/metrics").await;
            let dropped = text.lines().find_map(|line| line.strip_prefix("reveille_log_lines_dropped_total "));
            dropped.is_some_and(|dropped| dropped.parse::<f64>().is_ok_and(|lines| lines > 0.0))
        })
        .await;
        let before = receiver.count();
        receiver.wait_for(before + 2, SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_with_space_again_everything_goes_on() {
    let data = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start().await;
    // A file may have 4 MiB, of 512 bytes each; writing beyond is an error and not a signal.
    let below = Below::start(within(r#"trap "" XFSZ; ulimit -S -f 8192; exec "$@""#, data.path())).await;
    let client = below.client();
    let large = |key: &str| {
        let mut document = document(&receiver, key, "date", "2090-01-01T00:00:00");
        document["task"]["data"] = json!({"filler": "x".repeat(20_000)});
        document
    };
    let mut taken = 0;
    let refused = loop {
        let answer = client.try_register(&large(&taken.to_string())).await.expect("an answer");
        if answer.status() != 200 {
            break answer.status();
        }
        taken += 1;
        assert!(taken < 5_000, "the limit does not hold");
    };
    assert_eq!(refused, 503);
    let limit = |bytes: &str| {
        let limits = ["--pid", &below.ready.pid.to_string(), &format!("--fsize={bytes}:")].map(str::to_owned);
        assert!(Command::new("prlimit").args(limits).status().expect("prlimit").success());
    };
    limit("0"); // what is small may have fitted in yet
    let is_ready = async || client.status("/readyz").await == 200;
    eventually(SOON, "it is not ready", || async {
        client.try_register(&large("more")).await.ok();
        !is_ready().await
    })
    .await;
    assert_eq!(client.status("/livez").await, 200, "a restart would not help");

    limit("unlimited");
    eventually(SOON, "it is ready", is_ready).await;
    fires_on(&below, &receiver).await;
    let listed = client.get("/schedules?limit=1").await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "what was acknowledged is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_loopback_is_not_answered_where_no_key_is_needed() {
    let data = tempfile::tempdir().expect("a folder");
    let status = async |process: &Process, path: &str, host: &str| {
        let listen = process.wait_ready(SOON).await.listen.expect("an API listener");
        let request = reqwest::Client::new().get(format!("http://{listen}{path}")).header("host", host);
        request.send().await.expect("an answer").status().as_u16()
    };
    let serve = |name: &str, args: &[&str]| {
        Process::builder(env!("CARGO_BIN_EXE_reveille"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .args([data.path().join(name)])
            .args(args)
            .with_ready_file()
            .start()
    };
    let open = serve("open", &["--public-url", "https://jobs.example/api"]);
    for path in ["/schedules", "/graphql", "/docs", "/openapi.json"] {
        assert_eq!(status(&open, path, "some.example").await, 421, "{path}");
        assert_ne!(status(&open, path, "localhost:9902").await, 421, "{path}");
        assert_ne!(status(&open, path, "jobs.example").await, 421, "{path}");
    }
    let closed = serve("closed", &["--api-token", "a-token-that-is-long-enough-to-be-one"]);
    assert_eq!(status(&closed, "/schedules", "some.example").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_clean_stop_the_file_alone_holds_everything() {
    let data = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start().await;
    let serve = |data: &Path| {
        Process::builder(env!("CARGO_BIN_EXE_reveille"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .args([data])
            .with_ready_file()
            .start()
    };
    let first = serve(data.path());
    let client = Client::new(&first.wait_ready(SOON).await.listen.expect("an API listener"));
    let id = client.register(&document(&receiver, "kept", "date", "2090-01-01T00:00:00")).await;
    first.sigterm();
    assert!(first.wait_exit(SOON).await.success());

    let copy = tempfile::tempdir().expect("a folder");
    fs::copy(data.path().join("reveille.db"), copy.path().join("reveille.db")).expect("copy the file");
    let second = serve(copy.path());
    let client = Client::new(&second.wait_ready(SOON).await.listen.expect("an API listener"));
    assert_eq!(client.get(&format!("/schedules/{id}")).await[0]["id"], id);
}
