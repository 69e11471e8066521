//! The product under test as processes: API, monitor and workers with the settings they come with.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use reveille_testkit::{Process, Ready, Redis, eventually};

use super::load::document;
use super::postgres::{Database, Server};
use crate::http::Connection;

/// Longer than anything takes to start or to end on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A binary of the product, and what it is called in the table.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) binary: PathBuf,
}

/// A deployment over PostgreSQL and Redis with a database of its own.
pub(crate) struct Deployment {
    pub(crate) database: Database,
    pub(crate) roles: Roles,
    pub(crate) api: Member,
    pub(crate) workers: Vec<Member>,
    monitor: Member,
    listen: String,
}

/// Names of the database's roles, by which statements are counted.
pub(crate) struct Roles {
    pub(crate) api: String,
    pub(crate) monitor: String,
    pub(crate) worker: String,
}

/// A process of the deployment.
pub(crate) struct Member {
    process: Process,
    /// From its start until it was ready.
    pub(crate) ready_in: Duration,
}

/// Starts processes of one deployment.
struct Starter<'a> {
    binary: &'a Path,
    server: &'a Server,
    database: &'a str,
    redis: &'a Redis,
    namespace: String,
}

impl Deployment {
    /// A migrated database and all roles; returns when they are ready.
    pub(crate) async fn start(subject: &Subject, server: &Server, redis: &Redis, workers: usize) -> Result<Self> {
        Self::attach(subject, server, redis, server.database().await?, workers, &[]).await
    }

    /// On a database that is there; what a deployment before it left is in it.
    pub(crate) async fn attach(
        subject: &Subject,
        server: &Server,
        redis: &Redis,
        database: Database,
        workers: usize,
        monitor_settings: &[&str],
    ) -> Result<Self> {
        let namespace = redis.fresh_namespace();
        let starter = Starter { binary: &subject.binary, server, database: &database.url, redis, namespace };
        let (api, api_role, ready) = starter.start(&["api", "--listen", "127.0.0.1:0"]).await;
        let (monitor, monitor_role, _) = starter.start(&[&["monitor"], monitor_settings].concat()).await;
        let (first, worker_role, _) = starter.start(&["worker"]).await;
        let mut members = vec![first];
        while members.len() < workers {
            members.push(starter.start_as(&worker_role, &["worker"]).await.0);
        }
        let roles = Roles { api: api_role, monitor: monitor_role, worker: worker_role };
        let listen = ready.listen.context("the API's address")?;
        Ok(Self { database, roles, monitor, workers: members, api, listen })
    }

    /// A connection to its API.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.listen).await
    }

    pub(crate) fn listen(&self) -> &str {
        &self.listen
    }

    /// One run through the whole path: connections are open afterwards, as they are at every peer that polls.
    pub(crate) async fn warm_up(&self, url: &str) -> Result<()> {
        self.connect().await?.register(&document(url, "warm-up", "now", "")).await?;
        eventually(PATIENCE, "the path is warm", || async {
            let succeeded = "SELECT EXISTS (SELECT 1 FROM runs WHERE state = 2)";
            self.database.look::<bool>(succeeded).await.unwrap_or(false)
        })
        .await;
        Ok(())
    }

    /// Ends the processes, so that what they wrote is counted, and leaves the database.
    pub(crate) async fn stop(self) -> Database {
        let members: Vec<Member> = self.workers.into_iter().chain([self.monitor, self.api]).collect();
        members.iter().for_each(|member| member.process.sigterm());
        for member in &members {
            member.process.wait_exit(PATIENCE).await;
        }
        self.database
    }
}

impl Member {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

impl Starter<'_> {
    /// A process with a database role of its own.
    async fn start(&self, command: &[&str]) -> (Member, String, Ready) {
        let (_, role) = self.server.role(self.database).await;
        let (member, ready) = self.start_as(&role, command).await;
        (member, role, ready)
    }

    async fn start_as(&self, role: &str, command: &[&str]) -> (Member, Ready) {
        let url = self.database.replacen("postgres://postgres@", &format!("postgres://{role}@"), 1);
        let redis = self.redis.url();
        let began = Instant::now();
        let process = Process::builder(self.binary)
            .args(command)
            .args(["--database-url", &url, "--redis-url", &redis, "--namespace", &self.namespace])
            .args(["--ops-listen", "127.0.0.1:0", "--log-level", "warn"])
            .with_ready_file()
            .start();
        let ready = process.wait_ready(PATIENCE).await;
        (Member { process, ready_in: began.elapsed() }, ready)
    }
}
