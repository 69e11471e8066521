//! Nothing outlives the test process, however that ends.
//!
//! The test runs its own executable again as a victim that starts servers, says who they are and comes
//! to a bad end.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use reveille_testkit::{Postgres, Process, Redis, eventually, eventually_some, scratch_dir};

use crate::DEADLINE;

/// The file the victim reports to; it is only a victim when there is one.
const REPORT: &str = "TESTKIT_VICTIM_REPORT";

#[tokio::test]
async fn nothing_survives_kill_9() {
    let victim = Victim::start("hang").await;
    victim.process.kill9();
    victim.expect_nothing_left().await;
}

#[tokio::test]
async fn nothing_survives_sigterm() {
    let victim = Victim::start("hang").await;
    victim.process.sigterm();
    victim.expect_nothing_left().await;
}

#[tokio::test]
async fn nothing_survives_a_panic() {
    let victim = Victim::start("panic").await;
    assert_eq!(victim.process.wait_exit(DEADLINE).await.code(), Some(101));
    victim.expect_nothing_left().await;
}

struct Victim {
    process: Process,
    scratch: PathBuf,
    pids: Vec<String>,
}

impl Victim {
    async fn start(end: &str) -> Self {
        let report = scratch_dir("victim").join("report");
        let process = Process::builder(std::env::current_exe().unwrap())
            .args(["--exact", "lifetime::victim", "--nocapture"])
            .env(REPORT, &report)
            .env("TESTKIT_VICTIM_END", end)
            .start();
        let content = eventually_some(DEADLINE, "the victim reports", || async {
            std::fs::read_to_string(&report).ok().filter(|content| content.ends_with('\n'))
        })
        .await;
        let mut lines = content.lines().map(str::to_owned);
        let scratch = PathBuf::from(lines.next().unwrap());
        let pids: Vec<String> = lines.collect();
        assert_eq!(pids.len(), 5, "{content}");
        Self { process, scratch, pids }
    }

    async fn expect_nothing_left(&self) {
        for pid in &self.pids {
            eventually(DEADLINE, "the victim's server is gone", || async { !is_alive(pid) }).await;
        }
        eventually(DEADLINE, "the victim's folder is gone", || async { !self.scratch.exists() }).await;
    }
}

/// Zombies do not count: who reaps them is not the test kit's business.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[tokio::test]
async fn victim() {
    let Some(report) = std::env::var_os(REPORT) else { return };
    let (shared_postgres, shared_redis) = (Postgres::shared().await, Redis::shared().await);
    let (postgres, redis) = (Postgres::start().await, Redis::start().await);
    redis.stop(); // a frozen one has to go too
    let process = Process::builder("sleep").args(["600"]).start();
    let scratch = scratch_dir("root").parent().unwrap().display().to_string();
    let pids = [shared_postgres.pid(), shared_redis.pid(), postgres.pid(), redis.pid(), process.pid()];
    let lines: Vec<String> = std::iter::once(scratch).chain(pids.map(|pid| pid.to_string())).collect();
    std::fs::write(report, format!("{}\n", lines.join("\n"))).unwrap();
    if std::env::var_os("TESTKIT_VICTIM_END").is_some_and(|end| end == "hang") {
        std::future::pending::<()>().await;
    }
    panic!("as asked");
}

/// Debian's folders are looked into without the path, so PostgreSQL is missed by naming a wrong one.
#[test]
fn a_missing_server_fails_and_says_what_to_do() {
    let cases = [
        ("redis::namespaces_differ", "PATH", "apt-get install redis-server"),
        ("postgres::databases_are_apart", "REVEILLE_PG_BIN", "holds no initdb and postgres"),
    ];
    for (test, variable, advice) in cases {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(variable, "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{test} passed without a server");
        assert!(text.contains(advice), "{text}");
    }
}
