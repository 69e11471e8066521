//! Thousands of one-shots due at one instant: how long to the last durable settle, and what each one costs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reveille_testkit::{Process, Redis};

use super::ledger;
use crate::clock;
use crate::proc;
use crate::rig::deployment::{Deployment, Subject};
use crate::rig::load::{Copies, document};
use crate::rig::peers::{Job, Peer, Peers};
use crate::rig::postgres::{Counters, Database, Server};
use crate::rig::template::Template;
use crate::rig::{Counter, Rig};

/// Rows that a copy into PostgreSQL surely writes per second, indexes and all.
const LOADED_PER_S: i64 = 4_000;
/// From the end of loading to the instant, at least: hints have arrived and timers are armed.
const MARGIN_MS: i64 = 1_500;
/// How often the counter and the ledger are looked at. The lookers' share of the machine, not more than 1 %.
const LOOK: Duration = Duration::from_millis(5);

/// What came of one burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    /// From the instant to the last settle.
    pub(crate) per_s: f64,
    /// The first call that was seen, after the instant.
    pub(crate) first_ms: f64,
    pub(crate) lost: i64,
    pub(crate) early: i64,
    /// Calls beyond one per job.
    pub(crate) repeated: i64,
    pub(crate) cost: Option<Cost>,
}

/// Per run, from just before the instant to the last settle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) database_cpu_us: f64,
    pub(crate) worker_cpu_us: f64,
    /// Without full-page images.
    pub(crate) wal_bytes: f64,
    pub(crate) full_page_image_bytes: f64,
    pub(crate) row_versions: f64,
    pub(crate) statements: f64,
}

/// When a burst was over: what [`watch`] saw.
pub(super) struct Seen {
    first_us: i64,
    done_us: i64,
    calls: u64,
    is_done: bool,
}

/// What is known before the instant.
struct Before {
    early: u64,
    counters: Counters,
    statements: i64,
    row_versions: i64,
    worker_cpu_ns: u64,
}

/// The product, alone on the server.
pub(crate) async fn of_product(rig: &Rig, subject: &Subject, jobs: usize, workers: usize) -> Result<Burst> {
    let deployment = Deployment::start(subject, &rig.server, &rig.redis, workers).await?;
    let url = rig.traffic.url("/burst");
    deployment.warm_up(&url).await?;
    let mut api = deployment.connect().await?;
    let template = Template::register(&deployment.database, &mut api, &url, "template").await?;
    let (burst, before) = of_deployment(rig, &rig.server, &deployment, &template, jobs, 1).await?;
    let database = deployment.stop().await; // what its connections wrote is counted when they close
    let burst = complete(burst, &database, before, jobs).await?;
    rig.server.discard(database).await?;
    Ok(burst)
}

/// One burst of a deployment that runs on `server`, its copies numbered from `from`.
pub(crate) async fn of_running(
    rig: &Rig,
    server: &Server,
    deployment: &Deployment,
    template: &Template,
    jobs: usize,
    from: i64,
) -> Result<Burst> {
    Ok(of_deployment(rig, server, deployment, template, jobs, from).await?.0)
}

/// The burst, but for its row versions; and how many there were before it.
async fn of_deployment(
    rig: &Rig,
    server: &Server,
    deployment: &Deployment,
    template: &Template,
    jobs: usize,
    from: i64,
) -> Result<(Burst, i64)> {
    let count = i64::try_from(jobs)?;
    let mut counter = rig.traffic.counter().await?;
    let due_at = clock::wall_ms() + 2 * MARGIN_MS + 1000 * count / LOADED_PER_S;
    let copies = Copies { from, count: count - 1, due_at, apart: 0, scattered: false };
    template.copy(&deployment.database, copies).await?;
    // They went around the API: one registration through it tells the cluster about the instant.
    let herald = document(&rig.traffic.url("/burst"), &format!("herald-{from}"), "date", &clock::date(due_at));
    deployment.connect().await?.register(&herald).await?;
    ensure!(clock::wall_ms() + MARGIN_MS < due_at, "loading {jobs} schedules took longer than foreseen");

    let worker_cpu_ns = || deployment.workers.iter().map(|worker| proc::cpu_ns(worker.pid())).sum();
    clock::sleep_until_ms(due_at - 300).await;
    let row_versions = deployment.database.row_versions().await?;
    let statements = server.statements(&deployment.roles.worker).await;
    let before = Before {
        row_versions,
        statements,
        worker_cpu_ns: worker_cpu_ns(),
        counters: server.counters().await?,
        early: early(&mut counter, due_at).await?,
    };
    let is_open = || ledger::has_open(&deployment.database, due_at);
    let seen = watch(&mut counter, jobs, due_at, is_open).await?;
    let after = server.counters().await?;
    let worker_cpu_ns: u64 = worker_cpu_ns();
    tokio::time::sleep(Duration::from_millis(300)).await; // the last claim, which finds nothing, is counted when it is over
    let statements = server.statements(&deployment.roles.worker).await - before.statements;
    let wal = server.wal(&before.counters, &after).await?;
    let judged = ledger::judge(&deployment.database, due_at).await?;
    let per = |total: f64| total / jobs as f64;
    let cost = Cost {
        database_cpu_us: per((after.cpu_ns - before.counters.cpu_ns) as f64 / 1000.0),
        worker_cpu_us: per(worker_cpu_ns.saturating_sub(before.worker_cpu_ns) as f64 / 1000.0),
        wal_bytes: per(wal.records),
        full_page_image_bytes: per(wal.full_page_images),
        row_versions: 0.0,
        statements: per(statements as f64),
    };
    let early = judged.early + i64::try_from(before.early)?;
    Ok((seen.burst(due_at, jobs, count - judged.succeeded, early, Some(cost)), before.row_versions))
}

/// Row versions, once they are all counted.
async fn complete(mut burst: Burst, database: &Database, before: i64, jobs: usize) -> Result<Burst> {
    let versions = database.row_versions().await? - before;
    if let Some(cost) = &mut burst.cost {
        cost.row_versions = versions as f64 / jobs as f64;
    }
    Ok(burst)
}

/// A peer with the same number of jobs, workers, and the same sink.
pub(crate) async fn of_peer(rig: &Rig, peers: &Peers, peer: Peer, jobs: usize, workers: usize) -> Result<Burst> {
    match peer.redis_settings() {
        Some(settings) => of_redis_peer(rig, peers, peer, settings, jobs, workers).await,
        None => of_postgres_peer(rig, peers, peer, jobs, workers).await,
    }
}

async fn of_postgres_peer(rig: &Rig, peers: &Peers, peer: Peer, jobs: usize, workers: usize) -> Result<Burst> {
    let database = rig.server.database().await?;
    let (url, role) = rig.server.role(&database.url).await;
    let mut counter = rig.traffic.counter().await?;
    let (due_at, processes) = start_workers(rig, peers, peer, &url, jobs, workers).await?;
    clock::sleep_until_ms(due_at - 300).await;
    let before = Before {
        row_versions: database.row_versions().await?,
        statements: rig.server.statements(&role).await,
        worker_cpu_ns: cpu_ns(&processes),
        counters: rig.server.counters().await?,
        early: early(&mut counter, due_at).await?,
    };
    let seen = watch(&mut counter, jobs, due_at, || database.look::<bool>(peer.open_jobs())).await?;
    let after = rig.server.counters().await?;
    let worker_cpu_ns = cpu_ns(&processes);
    let statements = rig.server.statements(&role).await - before.statements;
    let wal = rig.server.wal(&before.counters, &after).await?;
    drop(processes);
    tokio::time::sleep(Duration::from_millis(500)).await; // its connections notice, and their rows are counted
    let per = |total: f64| total / jobs as f64;
    let cost = Cost {
        database_cpu_us: per((after.cpu_ns - before.counters.cpu_ns) as f64 / 1000.0),
        worker_cpu_us: per(worker_cpu_ns.saturating_sub(before.worker_cpu_ns) as f64 / 1000.0),
        wal_bytes: per(wal.records),
        full_page_image_bytes: per(wal.full_page_images),
        row_versions: per((database.row_versions().await? - before.row_versions) as f64),
        statements: per(statements as f64),
    };
    let lost = if seen.is_done { 0 } else { i64::try_from(jobs)? - i64::try_from(seen.calls)? };
    let burst = seen.burst(due_at, jobs, lost, i64::try_from(before.early)?, Some(cost));
    rig.server.discard(database).await?;
    Ok(burst)
}

async fn of_redis_peer(
    rig: &Rig,
    peers: &Peers,
    peer: Peer,
    settings: &[&str],
    jobs: usize,
    workers: usize,
) -> Result<Burst> {
    let redis = Redis::start_with(settings).await;
    let mut connection = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    let mut counter = rig.traffic.counter().await?;
    let (due_at, processes) = start_workers(rig, peers, peer, &redis.url(), jobs, workers).await?;
    clock::sleep_until_ms(due_at - 300).await;
    let early = early(&mut counter, due_at).await?;
    let is_open = || {
        let mut connection = connection.clone();
        async move {
            let mut open = redis::pipe();
            open.cmd("LLEN").arg("bull:bench:wait").cmd("LLEN").arg("bull:bench:active");
            open.cmd("ZCARD").arg("bull:bench:delayed").cmd("ZCARD").arg("bull:bench:prioritized");
            let open: Vec<i64> = open.query_async(&mut connection).await?;
            Ok(open.iter().sum::<i64>() > 0)
        }
    };
    let seen = watch(&mut counter, jobs, due_at, is_open).await?;
    drop(processes);
    redis::cmd("PING").query_async::<String>(&mut connection).await?;
    let lost = if seen.is_done { 0 } else { i64::try_from(jobs)? - i64::try_from(seen.calls)? };
    Ok(seen.burst(due_at, jobs, lost, i64::try_from(early)?, None))
}

/// The instant, and the peer's workers, which wait for it.
async fn start_workers(
    rig: &Rig,
    peers: &Peers,
    peer: Peer,
    url: &str,
    jobs: usize,
    workers: usize,
) -> Result<(i64, Vec<Process>)> {
    let count = i64::try_from(jobs)?;
    let due_ms = clock::wall_ms() + 6_000 + 2_000 * i64::try_from(workers)? + 1000 * count / LOADED_PER_S;
    let sink = rig.traffic.url("/burst");
    let mut processes = Vec::new();
    for worker in 0..workers {
        let job = Job { url, sink: &sink, jobs, due_ms, registers: worker == 0 };
        processes.push(peers.start(peer, &job).await);
    }
    ensure!(clock::wall_ms() + 500 < due_ms, "{} took longer to register than foreseen", peer.name());
    Ok((due_ms, processes))
}

/// Calls just before the instant: there may be none.
pub(super) async fn early(counter: &mut Counter<'_>, due_at: i64) -> Result<u64> {
    clock::sleep_until_ms(due_at - 10).await;
    counter.count().await
}

/// Waits until every job was called and nothing is open, or patience ends.
pub(super) async fn watch<F>(
    counter: &mut Counter<'_>,
    jobs: usize,
    due_at: i64,
    is_open: impl Fn() -> F,
) -> Result<Seen>
where
    F: Future<Output = Result<bool>>,
{
    let patience = Duration::from_secs(60) + Duration::from_millis(u64::try_from(jobs)? * 5);
    clock::sleep_until_ms(due_at).await;
    let began = Instant::now();
    let mut first_us = None;
    loop {
        let calls = counter.count().await?;
        if calls > 0 {
            first_us.get_or_insert_with(clock::wall_us);
        }
        let is_done = calls >= u64::try_from(jobs)? && !is_open().await?;
        if is_done || began.elapsed() > patience {
            let done_us = clock::wall_us();
            return Ok(Seen { first_us: first_us.unwrap_or(done_us), done_us, calls, is_done });
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Seen {
    pub(super) fn burst(&self, due_at: i64, jobs: usize, lost: i64, early: i64, cost: Option<Cost>) -> Burst {
        let seconds = (self.done_us - due_at * 1000) as f64 / 1e6;
        Burst {
            per_s: if self.is_done { jobs as f64 / seconds } else { 0.0 },
            first_ms: (self.first_us - due_at * 1000) as f64 / 1000.0,
            lost,
            early,
            repeated: i64::try_from(self.calls).unwrap_or(i64::MAX) - i64::try_from(jobs).unwrap_or(0),
            cost,
        }
    }
}

fn cpu_ns(processes: &[Process]) -> u64 {
    processes.iter().map(|process| proc::cpu_ns(process.pid())).sum()
}
