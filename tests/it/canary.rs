//! A canary in every place where a secret can stand, everything exercised at the loudest log level: nobody but the
//! targets has seen one of them, and neither have the files and tables of the database.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::StreamExt;
use reveille_testkit::{Answer, Postgres, Process, Receiver, Redis, eventually};
use serde_json::{Value, json};

use crate::cluster::SOON;

const CANARY: &str = "canary-d81f";
/// A key of 32 bytes that says so.
const KEY: &str = "Y2FuYXJ5LWtleS1jYW5hcnkta2V5LWNhbmFyeS1rZXk=";
const SIGNING: &str = "Y2FuYXJ5LXNpZ25pbmc=";

fn secret(place: &str) -> String {
    format!("{CANARY}-{place}")
}

/// Everything that somebody outside could read.
#[derive(Default)]
struct Seen(Vec<(String, String)>);

impl Seen {
    fn note(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// # Panics
    /// When a canary is in what was seen.
    fn check(&self) {
        let canaries = [CANARY, KEY, SIGNING];
        let lines = self.0.iter().flat_map(|(place, text)| text.lines().map(move |line| (place, line)));
        let sung: Vec<_> = lines.filter(|(_, line)| canaries.iter().any(|canary| line.contains(canary))).collect();
        assert!(sung.is_empty(), "a secret was seen: {sung:#?}");
    }
}

/// A deployment in one process, on a database of the caller's choice.
struct Deployment {
    args: Vec<String>,
    environment: Vec<(&'static str, String)>,
    process: Process,
    base: String,
    http: reqwest::Client,
    receiver: Receiver,
    redis: Redis,
    seen: Seen,
    _folder: tempfile::TempDir,
}

impl Deployment {
    async fn start(data: &Path, database: Option<String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (receiver, redis) = (Receiver::start().await, Redis::start().await);
        let with_password = |place: &str| redis.url().replacen("://", &format!("://default:{}@", secret(place)), 1);
        let secrets = folder.path().join("secrets");
        std::fs::create_dir_all(secrets.join("chef")).expect("a folder");
        std::fs::write(secrets.join("chef/token"), secret("reference")).expect("a file");
        std::fs::write(secrets.join("chef/webhook-signing"), format!("whsec_{SIGNING}")).expect("a file");
        let connections = folder.path().join("connections.toml");
        let named = format!(
            "[hook]\ntype = \"rest\"\nhost = \"{}\"\nheaders = {{X-Named = \"{}\"}}\n\n[cache]\ntype = \"redis\"\nhost = \"{}\"\npassword = \"{}\"\nusername = \"default\"\n",
            receiver.url("/named"),
            secret("named-header"),
            redis.url(),
            secret("named-password")
        );
        std::fs::write(&connections, named).expect("a file");

        let path = |path: &Path| path.to_str().expect("text").to_owned();
        let mut args = vec!["--data-dir".to_owned(), path(data), "--secrets-dir".to_owned(), path(&secrets)];
        args.extend(["--connections".to_owned(), path(&connections), "--log-level".to_owned(), "trace".to_owned()]);
        args.extend(["--secret-headers".to_owned(), "X-Token".to_owned()]);
        let mut environment = vec![
            ("REVEILLE_SECRET_KEY", KEY.to_owned()),
            ("REVEILLE_API_TOKEN", secret("api-token")),
            ("REVEILLE_REDIS_URL", with_password("bus")),
            ("REVEILLE_REF_VARIABLE", secret("variable")),
        ];
        environment.extend(database.map(|url| ("REVEILLE_DATABASE_URL", url)));
        let mut builder = Process::builder(env!("CARGO_BIN_EXE_reveille"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(&args)
            .with_ready_file();
        for (name, value) in &environment {
            builder = builder.env(name, value);
        }
        let process = builder.start();
        let base = format!("http://{}", process.wait_ready(SOON).await.listen.expect("an API listener"));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::new();
        let seen = Seen::default();
        Self { args, environment, process, base, http, receiver, redis, seen, _folder: folder }
    }

    async fn ask(&mut self, method: &str, path: &str, body: impl Into<String>) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let request = self.http.request(method, format!("{}{path}", self.base)).body(body.into());
        let answer = request.bearer_auth(secret("api-token")).send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
        let text = answer.text().await.expect("text");
        let json = serde_json::from_str(&text).unwrap_or_default();
        self.seen.note(format!("the answer to {path}"), headers + &text);
        (status, json)
    }

    async fn register(&mut self, document: &Value) -> String {
        let (status, answer) = self.ask("POST", "/schedules", document.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        answer["id"].as_str().expect("an id").to_owned()
    }

    fn document(&self, key: &str, kind: &str, task: Value) -> Value {
        let mut document = json!({
            "name": key, "type": kind, "schedule": if kind == "now" { "" } else { "@daily" },
            "client": {"application": "chef", "group": "it", "key": key},
            "task": {"type": "rest", "connection": {"host": self.receiver.url(&format!("/{key}")), "headers": {
                "Authorization": secret("authorization"), "Cookie": secret("cookie"), "X-Api-Key": secret("x-api-key"),
                "X-Token": secret("configured"), "X-Reference": "Bearer secret://token", "X-Variable": "secret://variable"
            }}, "history_check": true}
        });
        let members = document["task"].as_object_mut().expect("an object");
        members.extend(task.as_object().expect("an object").clone());
        document
    }

    fn redis_task(&self) -> Value {
        let host = self.redis.url().replacen("://", &format!("://default:{}@", secret("target")), 1);
        json!({"type": "redis", "connection": {"host": host, "topic": "news"}, "data": {"n": 1}})
    }

    async fn exercise(&mut self) {
        let client = redis::Client::open(self.redis.url()).expect("a client");
        let mut subscriber = client.get_async_pubsub().await.expect("a subscriber");
        subscriber.subscribe("news").await.expect("a subscription");
        self.receiver.script("/flaky", [Answer::status(500), Answer::status(503), Answer::ok()]);
        self.receiver.script("/dead", [Answer::status(500)]);
        let mut ids = Vec::new();
        for (key, kind, task) in [
            ("good", "now", json!({})),
            ("flaky", "now", json!({"failed_policy": "retry", "retry_wait": 0})),
            ("dead", "now", json!({"failed_policy": "retry_dlq", "retry_wait": 0, "max_retry_count": 1})),
            ("later", "cron", json!({})),
            ("redis", "now", self.redis_task()),
            ("cache", "now", json!({"type": "redis", "connection": {"name": "cache", "topic": "news"}})),
            ("hook", "now", json!({"connection": {"name": "hook"}})),
        ] {
            ids.push(self.register(&self.document(key, kind, task)).await);
        }
        let mut whole = self.document("whole", "now", json!({}));
        whole["task"]["connection"]["body"] = json!("schedule");
        ids.push(self.register(&whole).await);
        let mut unknown = self.document("unknown", "now", json!({}));
        unknown["task"]["connection"]["headers"]["X-Unknown"] = json!("secret://nobody");
        ids.push(self.register(&unknown).await);
        self.refusals().await;

        // Sent back as it is shown, and changed.
        let (_, shown) = self.ask("GET", &format!("/schedules/{}", ids[3]), "").await;
        let mut back = shown[0].clone();
        back["task"]["data"] = json!({"changed": true});
        let (status, answer) = self.ask("POST", &format!("/schedules/{}/update", ids[3]), back.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        let (status, _) = self.ask("POST", &format!("/schedules/{}/trigger", ids[3]), "").await;
        assert_eq!(status, 200);

        for _ in 0..2 {
            let message = tokio::time::timeout(SOON, subscriber.on_message().next()).await;
            assert!(message.is_ok(), "what went to Redis was published");
        }
        let all = ["good", "flaky", "dead", "later", "whole", "named"];
        eventually(SOON, "every target is called", || async {
            all.iter().all(|key| !self.receiver.deliveries_to(&format!("/{key}")).is_empty())
                && self.receiver.deliveries_to("/flaky").len() == 3
                && self.receiver.deliveries_to("/dead").len() == 2
        })
        .await;
        for id in &ids {
            for path in
                [format!("/schedules/{id}"), format!("/schedules/{id}/runs"), format!("/schedules/{id}/history")]
            {
                let (_, answer) = self.ask("GET", &path, "").await;
                for run in answer.as_array().into_iter().flatten().filter_map(|run| run["id"].as_str()) {
                    self.ask("GET", &format!("/runs/{run}"), "").await;
                }
            }
        }
        for path in [
            "/schedules",
            "/schedules?application=chef&state=finished",
            "/history",
            "/wake",
            "/readyz",
            "/livez",
            "/metrics",
        ] {
            self.ask("GET", path, "").await;
        }
        self.ask("DELETE", "/schedules?application=chef&key=good", "").await;
    }

    /// What is wrong with a document is said without quoting it.
    async fn refusals(&mut self) {
        let good = self.document("bad", "now", json!({}));
        let mut faults = vec![format!("{good}}}"), format!("[{good}]"), secret("no-json"), format!("\"{CANARY}")];
        let long = CANARY.repeat(600);
        for (pointer, value) in [
            ("/type", json!("never")),
            ("/task/connection/headers/Authorization", json!(format!("{CANARY}\n"))),
            ("/task/connection/headers/Authorization", json!(long)),
            ("/task/connection/headers/Authorization", json!({"x": CANARY})),
            ("/task/connection/headers/X-Reference", json!(format!("secret://{CANARY}/x"))),
            ("/task/connection/host", json!(format!("http://user:{CANARY}@localhost/"))),
            ("/task/connection/host", json!(format!("{CANARY}://localhost/"))),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).expect("a field") = value;
            faults.push(bad.to_string());
        }
        for host in [
            format!("redis://:{CANARY}@localhost:99999"),
            format!("redis://:{CANARY} @h"),
            format!("redis://:{CANARY}@h?x"),
        ] {
            let task = json!({"type": "redis", "connection": {"host": host, "topic": "t"}});
            faults.push(self.document("bad", "now", task).to_string());
        }
        for body in faults {
            let (status, answer) = self.ask("POST", "/schedules", body.clone()).await;
            assert!((400..500).contains(&status), "{status} {answer} {body}");
        }
        let stranger = self.http.get(format!("{}/schedules", self.base)).bearer_auth(secret("wrong-token"));
        let answer = stranger.send().await.expect("an answer");
        assert_eq!(answer.status(), 401);
        self.seen.note("the answer to a stranger", answer.text().await.expect("text"));
    }

    /// What the commands print.
    fn commands(&mut self, extra: &[&[&str]]) {
        let commands: [&[&str]; 5] =
            [&["config"], &["doctor"], &["doctor", "--json"], &["config", "--markdown"], &["reseal"]];
        for command in commands.iter().chain(extra) {
            let mut process = Command::new(env!("CARGO_BIN_EXE_reveille"));
            process.args(*command).args(&self.args).env_clear();
            process.envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())));
            let output = process.output().expect("it runs");
            for text in [output.stdout, output.stderr] {
                self.seen.note(format!("`reveille {}`", command.join(" ")), String::from_utf8_lossy(&text));
            }
        }
    }

    /// The targets received what they should have.
    fn check_targets(&self) {
        for key in ["good", "flaky", "dead", "later", "whole"] {
            for delivery in self.receiver.deliveries_to(&format!("/{key}")) {
                for (header, place) in [
                    ("authorization", "authorization"),
                    ("cookie", "cookie"),
                    ("x-api-key", "x-api-key"),
                    ("x-token", "configured"),
                    ("x-variable", "variable"),
                ] {
                    assert_eq!(delivery.header(header), secret(place), "{key}");
                }
                assert_eq!(delivery.header("x-reference"), format!("Bearer {}", secret("reference")));
                assert!(delivery.header("webhook-signature").starts_with("v1,"));
                let body = String::from_utf8_lossy(&delivery.body);
                assert!(!body.contains(CANARY) && !body.contains("sealed.v1"), "{key}: {body}");
            }
        }
        assert_eq!(self.receiver.deliveries_to("/named")[0].header("x-named"), secret("named-header"));
        assert_eq!(self.receiver.deliveries_to("/unknown").len(), 0);
    }

    async fn end(mut self) {
        self.commands(&[&["config", "--secret-key", CANARY], &["config", "--api-token", "canary-d81f"]]);
        self.process.sigterm();
        self.process.wait_exit(SOON).await;
        let log = self.process.stderr();
        assert!(log.contains("TRACE") && log.contains("attempt failed"), "it logs all there is: {log}");
        self.seen.note("the log", log);
        self.seen.note("the output", self.process.stdout());
        self.seen.check();
        self.check_targets();
    }
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_targets_see_a_secret_and_the_file_of_the_database_holds_none() {
    let data = tempfile::tempdir().expect("a folder");
    let mut deployment = Deployment::start(data.path(), None).await;
    deployment.exercise().await;
    // Also what a write-ahead log still holds.
    for file in files_of(data.path()) {
        let bytes = std::fs::read(&file).expect("a file");
        deployment.seen.note(file.display().to_string(), String::from_utf8_lossy(&bytes));
    }
    deployment.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_targets_see_a_secret_and_the_tables_of_postgres_hold_none() {
    let postgres = Postgres::shared().await;
    let clear = postgres.fresh_database().await;
    let data = tempfile::tempdir().expect("a folder");
    let with_password = clear.replacen("postgres@", &format!("postgres:{}@", secret("database")), 1);
    assert_ne!(clear, with_password);
    let mut deployment = Deployment::start(data.path(), Some(with_password)).await;
    deployment.exercise().await;
    let pool = sqlx::PgPool::connect(&clear).await.expect("a connection");
    let tables: Vec<String> = sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
        .fetch_all(&pool)
        .await
        .expect("the tables");
    assert!(tables.contains(&"schedules".to_owned()));
    for table in tables {
        let rows = sqlx::AssertSqlSafe(format!("SELECT coalesce(string_agg(t::text, '\n'), '') FROM {table} t"));
        let rows: String = sqlx::query_scalar(rows).fetch_one(&pool).await.expect("the rows");
        deployment.seen.note(format!("the table {table}"), rows);
    }
    pool.close().await;
    deployment.end().await;
}
