//! The dashboard and the alerts ask for metrics that there are, by their full names, and every alert says what to do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use reveille_testkit::{Answer, Process, Receiver, eventually_some, scratch_dir};
use serde_json::{Value, json};

use crate::cluster::{Client, SOON};

fn file(path: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).expect("a file of this repository")
}

/// Names of metrics in an expression.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    words.filter(|word| word.starts_with("reveille_")).map(str::to_owned).collect()
}

/// All strings under `key`, wherever it stands.
fn strings<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == key => found.push(text),
                    member => strings(member, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, found)),
        _ => {}
    }
}

/// The values of a key in the rules, one per line of theirs.
fn values<'a>(rules: &'a str, key: &str) -> Vec<&'a str> {
    rules.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key)).map(str::trim).collect()
}

/// The heading as an anchor, as it is rendered.
fn anchor(heading: &str) -> String {
    heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_and_the_alerts_ask_for_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(&file("k8s/observability/reveille-dashboard.json")).expect("JSON");
    let rules = file("k8s/observability/reveille-alerts.yaml");
    let mut asked = Vec::new();
    strings(&dashboard, "expr", &mut asked);
    strings(&dashboard, "query", &mut asked);
    asked.extend(values(&rules, "expr:"));
    let asked: BTreeSet<String> = asked.into_iter().flat_map(names).collect();
    assert!(asked.len() > 15, "{asked:?}");

    let receiver = Receiver::start().await;
    receiver.script("/bad", [Answer::status(500)]);
    let data = scratch_dir("observability");
    let args = ["serve", "--listen", "127.0.0.1:0", "--data-dir"];
    let process = Process::builder(env!("CARGO_BIN_EXE_reveille")).args(args).args([data]).with_ready_file().start();
    let listen = process.wait_ready(SOON).await.listen.expect("an API");
    let client = Client::new(&listen);
    for (path, kind, schedule) in [("/good", "now", ""), ("/bad", "now", ""), ("/later", "delay", "3600")] {
        let task = json!({"type": "rest", "connection": {"host": receiver.url(path)},
                          "failed_policy": "retry_dlq", "max_retry_count": 0});
        let document = json!({"client": {"key": path}, "type": kind, "schedule": schedule, "task": task});
        client.register(&document).await;
    }
    let url = format!("http://{listen}/metrics");
    eventually_some(
        SOON,
        &format!("all that is asked for is there, and the dead letter is counted: {asked:?}"),
        || async {
            let shown = reqwest::get(&url).await.expect("an answer").text().await.expect("text");
            let there: BTreeSet<&str> = shown.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
            let missing: Vec<&String> = asked.iter().filter(|name| !there.contains(name.as_str())).collect();
            eprint!("{}", missing.iter().map(|name| format!("missing: {name}\n")).collect::<String>());
            let is_counted = shown.contains("reveille_worker_dead_letters_total 1\n");
            (missing.is_empty() && is_counted).then_some(shown)
        },
    )
    .await;
}

#[test]
fn every_alert_says_what_to_look_at() {
    let rules = file("k8s/observability/reveille-alerts.yaml");
    let runbook = file("docs/runbook.md");
    let anchors: BTreeSet<String> = runbook.lines().filter(|line| line.starts_with("## ")).map(anchor).collect();
    let alerts = values(&rules, "alert:");
    let lines = values(&rules, "runbook:");
    assert_eq!((alerts.len(), lines.len()), (7, 7), "{alerts:?}");
    for (alert, line) in alerts.iter().zip(lines) {
        let (_, section) =
            line.trim_end_matches('"').split_once("docs/runbook.md#").unwrap_or_else(|| panic!("{alert}"));
        assert!(anchors.contains(section), "{alert}: there is no section {section} among {anchors:?}");
    }
    for key in ["for:", "severity:", "summary:"] {
        let given = values(&rules, key).len();
        assert!(given >= alerts.len() - usize::from(key == "for:"), "{key} {given}");
    }
}
