//! The clustered deployment as processes: API, monitors and workers over real PostgreSQL and Redis.

mod backlog;
mod crash_points;
mod database_faults;
mod doctor;
mod graphql;
mod held_rows;
mod history;
mod idle;
mod monitor_faults;
mod redis_faults;
mod throughput;
mod timings;
mod worker_faults;
mod zone_rules;

use std::time::Duration;

use reveille_shared::store::{Store, StoreSettings};
use reveille_testkit::{PgBouncer, Postgres, Process, Receiver, Redis, eventually_some};
use serde_json::{Value, json};

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Names of the roles whose statements are counted apart.
pub(crate) struct Roles {
    pub(crate) api: String,
    pub(crate) monitor: String,
    pub(crate) worker: String,
}

/// One deployment with a database, a Redis and a receiver of its own.
pub(crate) struct Cluster {
    pub(crate) postgres: &'static Postgres,
    pub(crate) redis: Redis,
    pub(crate) receiver: Receiver,
    pub(crate) database: String,
    pub(crate) roles: Roles,
    pub(crate) client: Client,
    _api: Member,
}

/// A process of the deployment.
pub(crate) struct Member {
    pub(crate) process: Process,
    pub(crate) ops: String,
}

/// Timeouts short enough for a test. A test lengthens those that must not be what makes it pass.
pub(crate) const QUICK: &[&str] = &[
    "--lease",
    "3s",
    "--recheck",
    "3s",
    "--beat",
    "500ms",
    "--monitor-ttl",
    "2s",
    "--degraded-after",
    "4s",
    "--degraded-check",
    "2s",
];

/// Nothing but the wake protocol itself may bring a run in time: no recheck, no degraded check, no election.
pub(crate) const PATIENT: &[&str] = &[
    "--lease",
    "10m",
    "--recheck",
    "10m",
    "--beat",
    "500ms",
    "--monitor-ttl",
    "10m",
    "--degraded-after",
    "10m",
    "--degraded-check",
    "10m",
];

impl Cluster {
    /// A migrated database, a Redis, a receiver and one API; monitors and workers are added by the test.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        Self::start_on(Postgres::shared().await, settings).await
    }

    /// The same on a database server that the test may break.
    pub(crate) async fn start_on(postgres: &'static Postgres, settings: &[&str]) -> Self {
        let database = postgres.fresh_database().await;
        let redis = Redis::start().await;
        let receiver = Receiver::start().await;
        let roles = Roles {
            api: postgres.fresh_role().await,
            monitor: postgres.fresh_role().await,
            worker: postgres.fresh_role().await,
        };
        let api = spawn(postgres, &database, &redis, &roles.api, &["api", "--listen", "127.0.0.1:0"], settings).await;
        let client = Client::new(&api.1);
        Self { postgres, redis, receiver, database, roles, client, _api: api.0 }
    }

    pub(crate) async fn monitor(&self, settings: &[&str]) -> Member {
        spawn(self.postgres, &self.database, &self.redis, &self.roles.monitor, &["monitor"], settings).await.0
    }

    pub(crate) async fn worker(&self, settings: &[&str]) -> Member {
        spawn(self.postgres, &self.database, &self.redis, &self.roles.worker, &["worker"], settings).await.0
    }

    /// A worker whose statements go through a pooler.
    pub(crate) async fn worker_through(&self, pooler: &PgBouncer, settings: &[&str]) -> Member {
        start(&pooler.url(&self.database), &self.redis, &["worker"], settings).await.0
    }

    /// Another API process beside the first.
    pub(crate) async fn another_api(&self, settings: &[&str]) -> (Member, Client) {
        let role = &self.roles.api;
        let args = ["api", "--listen", "127.0.0.1:0"];
        let (member, listen) = spawn(self.postgres, &self.database, &self.redis, role, &args, settings).await;
        let client = Client::new(&listen);
        (member, client)
    }

    /// The store, for what no user would do through the API: thousands of schedules, looks at rows.
    pub(crate) async fn store(&self) -> std::sync::Arc<dyn Store> {
        reveille_shared::store::open(&self.database, StoreSettings::default()).await.expect("open the store")
    }

    /// A REST document for this deployment's receiver.
    pub(crate) fn document(&self, key: &str, kind: &str, schedule: &str) -> Value {
        document(&self.receiver, key, kind, schedule)
    }
}

pub(crate) fn document(receiver: &Receiver, key: &str, kind: &str, schedule: &str) -> Value {
    json!({
        "name": key,
        "client": {"application": "test", "group": "it", "key": key},
        "type": kind,
        "schedule": schedule,
        "task": {
            "type": "rest",
            "connection": {"host": receiver.url(&format!("/{key}"))},
            "data": {"key": key}
        }
    })
}

async fn spawn(
    postgres: &Postgres,
    database: &str,
    redis: &Redis,
    role: &str,
    command: &[&str],
    settings: &[&str],
) -> (Member, String) {
    start(&postgres.url_as(database, role), redis, command, settings).await
}

async fn start(database: &str, redis: &Redis, command: &[&str], settings: &[&str]) -> (Member, String) {
    let common = ["--database-url", database, "--redis-url", &redis.url(), "--ops-listen", "127.0.0.1:0"];
    let process = Process::builder(env!("CARGO_BIN_EXE_reveille"))
        .args(command)
        .args(common)
        .args(settings)
        .with_ready_file()
        .start();
    let ready = process.wait_ready(SOON).await;
    let member = Member { process, ops: ready.ops_listen.expect("an ops listener") };
    (member, ready.listen.unwrap_or_default())
}

impl Member {
    /// The sum of a metric over its labels, of which `labels` must be part; 0 when there is none.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text =
            reqwest::get(format!("http://{}/metrics", self.ops)).await.expect("metrics").text().await.expect("text");
        text.lines()
            .filter(|line| line.starts_with(name) && line.contains(labels))
            .filter(|line| matches!(line.as_bytes().get(name.len()), Some(b' ' | b'{')))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// The caller of an API.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(listen: &str) -> Self {
        // The test process has no TLS implementation of its own, and needs one although it speaks none.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { base: format!("http://{listen}"), http: reqwest::Client::new() }
    }

    /// Its address.
    pub(crate) fn listen(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    pub(crate) async fn register(&self, document: &Value) -> String {
        let answer = self.try_register(document).await.expect("an answer");
        let status = answer.status();
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(status, 200, "{body}");
        body["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn try_register(&self, document: &Value) -> reqwest::Result<reqwest::Response> {
        self.http.post(format!("{}/schedules", self.base)).json(document).send().await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.http.get(format!("{}{path}", self.base)).send().await.expect("an answer").json().await.expect("JSON")
    }

    /// The body of an answer, as text.
    pub(crate) async fn text(&self, path: &str) -> String {
        self.http.get(format!("{}{path}", self.base)).send().await.expect("an answer").text().await.expect("text")
    }

    /// The status of an answer.
    pub(crate) async fn status(&self, path: &str) -> u16 {
        self.http.get(format!("{}{path}", self.base)).send().await.expect("an answer").status().as_u16()
    }

    pub(crate) async fn delete(&self, path: &str) -> Value {
        self.http.delete(format!("{}{path}", self.base)).send().await.expect("an answer").json().await.expect("JSON")
    }

    /// The runs of a schedule, newest first.
    pub(crate) async fn runs(&self, id: &str) -> Vec<Value> {
        let runs = self.get(&format!("/schedules/{id}/runs?limit=200")).await;
        runs.as_array().expect("a list of runs").clone()
    }

    /// The latest run of a schedule that is in `state`.
    pub(crate) async fn run_in_state(&self, id: &str, state: &str) -> Value {
        eventually_some(SOON, &format!("a run is {state}"), || async {
            self.runs(id).await.into_iter().find(|run| run["state"] == state)
        })
        .await
    }
}

/// A date document's `schedule` for an instant so many milliseconds from now, in UTC.
pub(crate) fn date_in(ms: i64) -> String {
    date_at(reveille_shared::runtime::clock::wall_ms() + ms)
}

/// The same for a given instant.
pub(crate) fn date_at(at: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at).expect("an instant of this century");
    at.format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}
