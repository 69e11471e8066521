//! Processes: ready, output, signals, exit.

use std::time::Duration;

use reveille_testkit::{Process, Ready, eventually};

use crate::DEADLINE;

fn shell(script: &str) -> Process {
    Process::builder("sh").args(["-c", script, "sh"]).with_ready_file().start()
}

#[tokio::test]
async fn reads_the_ready_file() {
    // Written in two steps: the first half must not count.
    let process = shell(
        r#"printf '{"listen":"127.0.0.1:1",' > "$2"; sleep 0.1
           printf '"ops_listen":null,"pid":%d}' $$ >> "$2"; sleep 60"#,
    );
    let ready = process.wait_ready(DEADLINE).await;
    assert_eq!(ready, Ready { listen: Some("127.0.0.1:1".to_owned()), ops_listen: None, pid: process.pid() });
}

#[tokio::test]
#[should_panic(expected = "ended before it was ready: exit status: 3")]
async fn says_when_it_ends_instead() {
    shell("exit 3").wait_ready(DEADLINE).await;
}

#[tokio::test]
async fn keeps_the_output() {
    let process = shell("echo to stdout; echo to stderr >&2");
    process.wait_output("to stderr\n", DEADLINE).await;
    process.wait_output("to stdout\n", DEADLINE).await;
    assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("to stdout\n", "to stderr\n"));
}

#[tokio::test]
async fn ends_on_sigterm_in_its_own_way() {
    let process = shell("trap 'exit 5' TERM; echo trapped; while :; do sleep 0.01; done");
    process.wait_output("trapped", DEADLINE).await;
    process.sigterm();
    assert_eq!(process.wait_exit(DEADLINE).await.code(), Some(5));
    assert!(!process.is_running());
}

#[tokio::test]
async fn freezes_goes_on_and_is_killed() {
    let process = shell("while :; do echo tick; sleep 0.01; done");
    process.wait_output("tick", DEADLINE).await;
    process.sigstop();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap_or_default();
    eventually(DEADLINE, "it is stopped", || async { state().contains(") T ") }).await;
    process.sigcont();
    eventually(DEADLINE, "it goes on", || async { !state().contains(") T ") }).await;
    process.kill9();
    assert!(process.wait_exit(Duration::ZERO).await.code().is_none());
}

#[tokio::test]
async fn settings_of_the_caller_are_not_handed_on() {
    let process = Process::builder("env").env("REVEILLE_GIVEN", "1").start();
    process.wait_exit(DEADLINE).await;
    process.wait_output("REVEILLE_GIVEN=1", DEADLINE).await;
    assert_eq!(process.stdout().matches("REVEILLE_").count(), 1, "{}", process.stdout());
}
