//! The binary as a process: ready file, probes, signals, and a run from the store to its target.

use std::path::Path;
use std::time::Duration;

use reveille_shared::model::schedule::{ClientKey, DEFAULT_QUEUE};
use reveille_shared::model::timing::{ArmAt, Arming, OnUnchanged};
use reveille_shared::store::{self, Registration, StoreSettings};
use reveille_testkit::{
    Answer, Postgres, Process, ProcessBuilder, Receiver, Redis, eventually, free_port, scratch_dir,
};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);

fn reveille(args: &[&str]) -> ProcessBuilder {
    Process::builder(env!("CARGO_BIN_EXE_reveille")).args(args)
}

fn serve(data_dir: &Path) -> ProcessBuilder {
    let args = ["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--recheck", "500ms", "--data-dir"];
    reveille(&args).args([data_dir])
}

async fn get(address: &str, path: &str) -> (u16, String) {
    // The test process has no TLS implementation of its own, and needs one although it speaks none.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let answer = reqwest::get(format!("http://{address}{path}")).await.expect("the process answers");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

/// Registers a one-shot that is due at once, past the API and without a hint: the recheck finds it.
async fn register(database_url: &str, target: &str) {
    let store = store::open(database_url, StoreSettings::default()).await.expect("the database opens");
    let payload = serde_json::json!({
        "name": "smoke", "client": {"key": "smoke"}, "type": "now", "schedule": "", "timezone": "UTC",
        "task": {"type": "rest", "connection": {"host": target}, "data": {"hello": "world"},
                 "retry_wait": 60},
    });
    let registration = Registration {
        id: Uuid::now_v7(),
        client: ClientKey { key: "smoke".to_owned(), ..ClientKey::default() },
        name: "smoke".to_owned(),
        payload: payload.to_string(),
        fingerprint: "smoke".to_owned(),
        queue: DEFAULT_QUEUE.to_owned(),
        priority: 0,
        arming: Arming { at: ArmAt::AfterMs(0), calendar: false, unchanged: OnUnchanged::Rearm },
        run_id: Uuid::now_v7(),
        history_check: false,
    };
    store.schedule_upsert(&[registration]).await.expect("the registration is stored");
    store.close().await;
}

/// The metrics in the form that is asked for: its media type, and they.
async fn accepting(address: &str, accept: &str) -> (String, String) {
    let request = reqwest::Client::new().get(format!("http://{address}/metrics")).header("accept", accept);
    let answer = request.send().await.expect("an answer");
    let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
    (kind, answer.text().await.expect("text"))
}

#[tokio::test]
async fn serve_delivers_what_is_stored_and_ends_cleanly() {
    let dir = scratch_dir("serve").join("not-there-yet");
    let process = serve(&dir).with_ready_file().start();
    let ready = process.wait_ready(PATIENCE).await;
    assert_eq!(ready.pid, process.pid());
    let (api, ops) = (ready.listen.expect("an api"), ready.ops_listen.expect("health"));
    assert_ne!(api, ops);
    for address in [&api, &ops] {
        assert_eq!(get(address, "/livez").await.0, 200);
        assert_eq!(get(address, "/readyz").await.0, 200);
        let (status, metrics) = get(address, "/metrics").await;
        assert_eq!(status, 200);
        assert!(metrics.contains("reveille_build_info{version="), "{metrics}");
        assert!(metrics.contains("reveille_store_statements_total{role=\"serve\"} "), "{metrics}");
        assert!(metrics.contains("# TYPE reveille_build_info gauge\n"), "{metrics}");
        let (kind, metrics) = accepting(address, "text/plain;q=0.5,application/openmetrics-text;version=1.0.0").await;
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        assert!(metrics.contains("# TYPE reveille_build info\n") && metrics.ends_with("# EOF\n"), "{metrics}");
        assert_eq!(accepting(address, "*/*").await.0, "text/plain; version=0.0.4; charset=utf-8");
    }

    let receiver = Receiver::start().await;
    register(&format!("sqlite:{}", dir.join("reveille.db").display()), &receiver.url("/hello")).await;
    let deliveries = receiver.wait_for(1, PATIENCE).await;
    assert_eq!(deliveries[0].json(), serde_json::json!({"hello": "world"}));

    process.sigterm();
    assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn roles_as_processes_deliver_and_resign() {
    let postgres = Postgres::shared().await;
    let redis = Redis::shared().await;
    let (database, redis_url, namespace) = (postgres.fresh_database().await, redis.url(), redis.fresh_namespace());
    let shared = ["--database-url", &database, "--redis-url", &redis_url, "--namespace", &namespace];
    let role = |name: &str| reveille(&[name]).args(shared).args(["--recheck", "500ms"]).with_ready_file().start();
    let (monitor, worker) = (role("monitor"), role("worker"));
    let ready = monitor.wait_ready(PATIENCE).await;
    worker.wait_ready(PATIENCE).await;
    assert_eq!(ready.listen, None);
    let ops = ready.ops_listen.expect("a monitor shows its health");
    eventually(PATIENCE, "the monitor leads", || async {
        get(&ops, "/metrics").await.1.contains("reveille_monitor_leader 1")
    })
    .await;

    let receiver = Receiver::start().await;
    register(&database, &receiver.url("/")).await;
    receiver.wait_for(1, PATIENCE).await;

    let doctor = reveille(&["doctor"]).args(shared).start();
    assert_eq!(doctor.wait_exit(PATIENCE).await.code(), Some(0), "{}", doctor.stdout());
    for process in [&worker, &monitor] {
        process.sigterm();
        assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0));
    }
    let doctor = reveille(&["doctor"]).args(shared).start();
    assert_eq!(doctor.wait_exit(PATIENCE).await.code(), Some(1));
    doctor.wait_output("BAD  monitor", PATIENCE).await;
}

#[tokio::test]
async fn a_role_waits_for_its_database() {
    let postgres = Postgres::start().await;
    let database = postgres.fresh_database().await;
    postgres.kill();
    let args = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--database-url", &database];
    let process = reveille(&args).with_ready_file().start();
    process.wait_output("waiting for the database", PATIENCE).await;
    let address = listen_address(&process.stderr());
    assert_eq!(get(&address, "/livez").await.0, 200);
    assert_eq!(get(&address, "/readyz").await.0, 503);
    assert_eq!(get(&address, "/schedules").await.0, 503);

    postgres.restart().await;
    process.wait_ready(PATIENCE).await;
    assert_eq!(get(&address, "/readyz").await.0, 200);
    let warnings = process.stderr().matches("waiting for the database").count();
    assert_eq!(warnings, 1, "said once, not at every try");
}

#[tokio::test]
async fn the_first_signal_ends_a_role_that_waits_for_its_database() {
    let nobody = format!("postgres://nobody@127.0.0.1:{}/nothing", free_port());
    for role in ["serve", "api", "worker", "monitor"] {
        let args =
            [role, "--ops-listen", "127.0.0.1:0", "--database-url", &nobody, "--redis-url", "redis://127.0.0.1:1"];
        // In the environment, which all roles may share.
        let process = reveille(&args).env("REVEILLE_LISTEN", "127.0.0.1:0").start();
        process.wait_output("waiting for the database", PATIENCE).await;
        process.sigterm();
        assert!(process.wait_exit(PATIENCE).await.success(), "{role}");
    }
}

#[tokio::test]
async fn a_second_process_on_a_data_dir_ends_and_says_who_has_it() {
    let dir = scratch_dir("locked");
    let first = serve(&dir).with_ready_file().start();
    first.wait_ready(PATIENCE).await;
    let second = serve(&dir).start();
    assert!(!second.wait_exit(PATIENCE).await.success());
    let said = second.stderr();
    assert!(said.contains(&format!("process {}", first.pid())), "{said}");
    let key = reveille(&["key", "create", "--scope", "read", "--data-dir"]).args([&dir]).start();
    assert!(key.wait_exit(PATIENCE).await.success(), "{}", key.stderr());
}

#[tokio::test]
async fn a_file_that_is_no_database_ends_the_start_in_words() {
    let dir = scratch_dir("no-database");
    std::fs::write(
        dir.join("text.db"),
        "not a database, however long it is, and it is long enough for a header\n".repeat(9),
    )
    .unwrap();
    for (url, expected) in [
        (format!("sqlite:{}", dir.join("text.db").display()), "not a database"),
        (format!("sqlite:{}", dir.join("missing/x.db").display()), "cannot"),
        ("sqlite::memory:".to_owned(), "in memory is not supported"),
    ] {
        let process = reveille(&["--listen", "127.0.0.1:0", "--database-url", &url]).start();
        assert!(!process.wait_exit(PATIENCE).await.success(), "{url}");
        assert!(process.stderr().contains(expected), "{url}: {}", process.stderr());
    }
    assert!(!Path::new(":memory:.lock").exists(), "what is no file is locked by none");
}

#[tokio::test]
async fn a_role_that_must_not_migrate_waits_for_who_does() {
    let dir = scratch_dir("no-migrate");
    let process = serve(&dir).args(["--no-migrate"]).with_ready_file().start();
    process.wait_output("`reveille migrate` has not run yet", PATIENCE).await;
    let address = listen_address(&process.stderr());
    assert_eq!(get(&address, "/livez").await.0, 200);
    assert_eq!(get(&address, "/readyz").await.0, 503);
    let migration = reveille(&["migrate", "--data-dir"]).args([&dir]).start();
    assert!(migration.wait_exit(PATIENCE).await.success());
    process.wait_ready(PATIENCE).await;
    assert_eq!(get(&address, "/readyz").await.0, 200);
}

fn listen_address(log: &str) -> String {
    let found = log.split_whitespace().find_map(|word| word.strip_prefix("listen="));
    found.expect("the bound address is logged").to_owned()
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let dir = scratch_dir("serve");
    let receiver = Receiver::start().await;
    receiver.script("/", [Answer::hang()]);
    let process = serve(&dir).args(["--drain", "1h"]).with_ready_file().start();
    process.wait_ready(PATIENCE).await;
    register(&format!("sqlite:{}", dir.join("reveille.db").display()), &receiver.url("/")).await;
    eventually(PATIENCE, "the call hangs", || async { receiver.in_flight("/") == 1 }).await;

    process.sigterm();
    process.wait_output("stopping", PATIENCE).await;
    assert!(process.is_running(), "it waits for the call in flight");
    process.sigterm();
    assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(1));
}

#[tokio::test]
async fn the_api_asks_for_its_token() {
    let token = "a-token-for-this-test";
    let process = serve(&scratch_dir("serve")).env("REVEILLE_API_TOKEN", token).with_ready_file().start();
    let api = process.wait_ready(PATIENCE).await.listen.expect("an api");
    assert_eq!(get(&api, "/livez").await.0, 200, "probes carry no token");
    let client = reqwest::Client::new();
    let ask = |authorization: Option<String>| {
        let request = client.get(format!("http://{api}/schedules"));
        let request = authorization.into_iter().fold(request, |request, value| request.header("authorization", value));
        async move { request.send().await.expect("an answer").status().as_u16() }
    };
    let refused = [None, Some("Bearer wrong".to_owned()), Some(format!("Basic {token}")), Some(token.to_owned())];
    for authorization in refused {
        assert_eq!(ask(authorization.clone()).await, 401, "{authorization:?}");
    }
    for scheme in ["Bearer", "bearer"] {
        assert_ne!(ask(Some(format!("{scheme} {token}"))).await, 401, "{scheme}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_said_at_once() {
    let first = serve(&scratch_dir("serve")).with_ready_file().start();
    let api = first.wait_ready(PATIENCE).await.listen.expect("an api");
    let second = reveille(&["serve", "--listen", &api]).start();
    assert_eq!(second.wait_exit(PATIENCE).await.code(), Some(1));
    second.wait_output(&format!("cannot listen on --listen {api}"), PATIENCE).await;
}

#[tokio::test]
async fn echo_prints_what_it_receives_but_no_secret() {
    let process = reveille(&["echo", "--listen", "127.0.0.1:0", "--status", "503"]).start();
    process.wait_output("listening", PATIENCE).await;
    let stdout = process.stdout();
    let target = stdout.split_whitespace().find(|word| word.starts_with("http://")).expect("it says where");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let answer = reqwest::Client::new()
        .post(format!("{target}tea?strong=1"))
        .header("authorization", "Bearer canary")
        .header("x-interesting", "yes")
        .body("two cups")
        .send()
        .await
        .expect("echo answers");
    assert_eq!(answer.status().as_u16(), 503);
    process.wait_output("two cups", PATIENCE).await;
    let printed = process.stdout();
    assert!(printed.contains("POST /tea?strong=1") && printed.contains("x-interesting: yes"), "{printed}");
    assert!(!printed.contains("canary"), "{printed}");
}

#[tokio::test]
async fn a_page_of_another_site_cannot_use_its_visitors_scheduler() {
    let process = serve(&scratch_dir("serve")).with_ready_file().start();
    let api = process.wait_ready(PATIENCE).await.listen.expect("an api");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ask = async |path: &str, site: &str| {
        let request = reqwest::Client::new().get(format!("http://{api}{path}")).header("sec-fetch-site", site);
        request.send().await.expect("the process answers").status().as_u16()
    };
    assert_eq!(ask("/schedules", "cross-site").await, 403);
    for site in ["none", "same-origin", "same-site"] {
        assert_eq!(ask("/schedules", site).await, 404, "{site}: let in, and there is no schedule");
    }
    for documentation in ["/docs", "/docs/swagger-ui-bundle.js", "/openapi.json"] {
        assert_eq!(ask(documentation, "cross-site").await, 200, "a link from another site leads to {documentation}");
    }
}

#[tokio::test]
async fn the_documentation_is_read_without_a_key() {
    let process =
        serve(&scratch_dir("serve")).args(["--api-token", "a-token-of-the-operator"]).with_ready_file().start();
    let api = process.wait_ready(PATIENCE).await.listen.expect("an api");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let status = async |path: &str| {
        reqwest::get(format!("http://{api}{path}")).await.expect("the process answers").status().as_u16()
    };
    assert_eq!((status("/docs").await, status("/openapi.json").await), (200, 200));
    assert_eq!(status("/schedules").await, 401);
}

/// Whoever reads the log as JSON reckons with what is in it.
#[tokio::test]
async fn a_log_in_json_has_numbers_as_numbers() {
    let dir = scratch_dir("json-log");
    // The recheck that is as frequent as the lease demands is told in milliseconds.
    let args =
        ["serve", "--listen", "127.0.0.1:0", "--log", "json", "--recheck", "60s", "--lease", "20s", "--data-dir"];
    let process = reveille(&args).args([&dir]).with_ready_file().start();
    process.wait_ready(PATIENCE).await;
    process.sigterm();
    process.wait_exit(PATIENCE).await;
    let log = process.stderr();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let is_text =
        |line: &serde_json::Value, field: &str| line[field].as_str().is_some_and(|text| text.parse::<f64>().is_ok());
    for line in &lines {
        let texts: Vec<&String> =
            line.as_object().expect("an object").keys().filter(|field| is_text(line, field)).collect();
        assert!(texts.is_empty(), "{texts:?} in {line}");
    }
    assert!(lines.iter().any(|line| line["recheck_ms"] == 20_000), "{log}");
}
