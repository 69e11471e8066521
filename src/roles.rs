//! The composition root: builds what a role needs out of the settings, runs it, and takes it down again.
//!
//! Order at the start: bind (a port in use is known at once), answer probes, wait for the database,
//! migrate, start the duties, say so. At the end: stop taking work, drain, close. A role that starts
//! before its database waits for it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use reveille_shared::Context;
use reveille_shared::bus::Bus;
use reveille_shared::bus::hint::Hinter;
use reveille_shared::bus::local::LocalBus;
use reveille_shared::bus::redis::RedisBus;
use reveille_shared::model::task::{BodyMode, TaskKind};
use reveille_shared::model::zone::rules;
use reveille_shared::runtime::clock::{Clock, DbClock, SystemClock};
use reveille_shared::runtime::lifecycle::Lifecycle;
use reveille_shared::runtime::seal::Sealer;
use reveille_shared::runtime::telemetry::{Metrics, whole_ms};
use reveille_shared::runtime::tzdata;
use reveille_shared::store::{self, Store, StoreError, StoreSettings};
use reveille_worker::Connections;
use tokio::time::timeout;

use crate::config::{DefaultBody, Settings, connections, redacted};
use crate::data;
use crate::door::{Door, Names};
use crate::http::{self, Bound};
use crate::ops::{self, Health};
use crate::ready;
use crate::sealing;
use crate::signals::Signals;
use crate::telemetry::Traces;

const API_LISTEN: &str = "127.0.0.1:9902";
const OPS_LISTEN: &str = "127.0.0.1:0";
const DATABASE_RETRY: Duration = Duration::from_secs(1);
/// Beyond the drain of the calls in flight: settling what they answered, resigning, closing.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// What a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// All of the others in one process.
    Serve,
    Api,
    Monitor,
    Worker,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Api => "api",
            Self::Monitor => "monitor",
            Self::Worker => "worker",
        }
    }

    fn runs(self, part: Self) -> bool {
        self == Self::Serve || self == part
    }
}

/// Runs a role until a signal or a failure ends it.
///
/// # Errors
/// What makes a start pointless: an address in use, a database that is not one.
pub(crate) async fn run(role: Role, settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    make_data_dir(settings)?;
    rules::set_current(Arc::new(tzdata::open(&settings.tzdata).context("--tzdata")?));
    rules::settle();
    let _lock = if role == Role::Serve { data::lock(&settings.database()).await? } else { None };
    let mut process = Process::new(role, settings, sealing::sealer(settings, role == Role::Serve)?)?;
    let name = settings.worker_name.clone().unwrap_or_else(worker_name);
    process.traces = Traces::start(settings, role.name(), name, &process.metrics)?;
    let started = tokio::select! {
        started = process.start() => started,
        signal = signals.next() => {
            tracing::info!(signal, "stopping before the start was complete");
            process.lifecycle.stop();
            Ok(())
        }
    };
    if started.is_ok() && !process.lifecycle.stopping().is_cancelled() {
        tokio::select! {
            signal = signals.next() => tracing::info!(signal, "stopping"),
            () = process.lifecycle.failed().cancelled() => {}
        }
    }
    let drained = process.end(&mut signals).await;
    tokio::task::block_in_place(|| process.traces.end());
    started?;
    let clean = drained && !process.lifecycle.failed().is_cancelled();
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Opens the store for a command that ends: no waiting for a database that is away.
///
/// # Errors
/// When the database cannot be used, or its schema not be brought up to date.
pub(crate) async fn open_now(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    let url = settings.database();
    make_data_dir(settings)?;
    let opened = open_once(&url, settings, !settings.no_migrate).await;
    opened.with_context(|| format!("the database {} cannot be used", redacted(&url)))
}

fn make_data_dir(settings: &Settings) -> anyhow::Result<()> {
    let dir = &settings.data_dir;
    if settings.database_url.is_some() {
        return Ok(());
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create --data-dir {}", dir.display()))
}

/// Brings the schema up to date, waiting for the database.
///
/// # Errors
/// When the schema cannot be brought up to date.
pub(crate) async fn migrate(settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let process = Process::new(Role::Serve, settings, Sealer::default())?;
    tokio::select! {
        opened = process.open_store(true) => opened?.close().await,
        signal = signals.next() => anyhow::bail!("ended by {signal} before the schema was up to date"),
    }
    tracing::info!(database = redacted(&settings.database()), "the schema is up to date");
    Ok(ExitCode::SUCCESS)
}

struct Process<'a> {
    role: Role,
    settings: &'a Settings,
    lifecycle: Lifecycle,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    traces: Traces,
    health: Health,
    connections: Connections,
    sealer: Sealer,
}

impl<'a> Process<'a> {
    fn new(role: Role, settings: &'a Settings, sealer: Sealer) -> anyhow::Result<Self> {
        let lifecycle = Lifecycle::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let metrics = Metrics::new();
        let health = Health::new(metrics.clone(), clock.clone(), lifecycle.clone());
        let connections = connections::read(settings.connections.as_deref()).map_err(anyhow::Error::msg)?;
        Ok(Self { role, settings, lifecycle, clock, metrics, traces: Traces::off(), health, connections, sealer })
    }

    async fn start(&self) -> anyhow::Result<()> {
        let (role, settings) = (self.role, self.settings);
        self.log_facts();
        if let Some(path) = &settings.ready_file {
            ready::withdraw(path)?;
        }
        let api = self.bind_api().await?;
        let ops = self.bind_ops().await?;
        let addresses =
            ready::Addresses { listen: api.as_ref().map(|bound| bound.address), ops: ops.as_ref().map(|b| b.address) };
        if let Some(ops) = ops {
            ops.serve_to_the_end(&self.lifecycle, self.health.router());
        }
        let door = Door::new();
        if let Some(api) = api {
            api.serve(
                &self.lifecycle,
                door.router(self.health.router().merge(reveille_api::documentation()), self.own_names()),
            );
        }

        let bus = self.bus()?;
        let store = self.open_store(!settings.no_migrate).await?;
        if role.runs(Role::Api)
            && settings.is_reachable()
            && settings.api_token.is_none()
            && !store.api_key_exists().await?
        {
            anyhow::bail!(
                "--listen is an address that others can reach: make a key with `reveille key create`, set --api-token, \
                 or --insecure-listen when something else keeps strangers out"
            );
        }
        ops::register(&self.metrics, role.name(), store.clone());
        let context = self.context(store.clone(), bus);
        let following = tzdata::follow(settings.tzdata.clone(), self.clock.clone(), self.lifecycle.closing().clone());
        self.lifecycle.spawn_attendant("time zone rules", following);
        if role.runs(Role::Api) {
            door.open(reveille_api::router(context.clone(), self.api_settings()));
        }
        if role.runs(Role::Monitor) {
            self.health.set_bus(context.bus.clone());
            self.lifecycle.spawn("monitor", reveille_monitor::run(context.clone(), self.monitor_settings()));
        }
        if role.runs(Role::Worker) {
            self.lifecycle.spawn("worker", reveille_worker::run(context, self.worker_settings()));
        }
        self.health.set_ready(store);
        if let Some(path) = &settings.ready_file {
            ready::announce(path, &addresses)?;
        }
        tracing::info!(role = role.name(), "ready");
        Ok(())
    }

    /// Drains, at most for as long as it may take. Answers whether everything ended by itself.
    async fn end(&self, signals: &mut Signals) -> bool {
        self.lifecycle.stop();
        let limit = self.settings.drain + CLOSING_TIME;
        let drained = tokio::select! {
            drained = timeout(limit, self.lifecycle.drained()) => drained.is_ok(),
            signal = signals.next() => {
                tracing::warn!(signal, "told again to stop: giving up what is still running");
                false
            }
        };
        if !drained {
            self.lifecycle.abort();
            // Leases bring back what is given up here.
            let _ = timeout(Duration::from_secs(1), self.lifecycle.drained()).await;
        }
        if let Some(store) = self.health.store() {
            // The last one to close a file of SQLite writes everything into it.
            let _ = timeout(Duration::from_secs(2), store.close()).await;
        }
        tracing::info!(drained, "stopped");
        drained
    }

    /// One line per fact, none of them a secret.
    fn log_facts(&self) {
        let (settings, rules) = (self.settings, rules::current());
        tracing::info!(version = env!("CARGO_PKG_VERSION"), role = self.role.name(), "reveille starts");
        tracing::info!(database = redacted(&settings.database()), "schedules and runs are kept in the database");
        if tzdata::version_at(&settings.tzdata).is_some_and(|version| version > rules.version()) {
            tracing::warn!(
                "this machine has newer rules of time zones, which cannot be read: is an upgrade under way?"
            );
        }
        match &settings.redis_url {
            Some(url) => {
                tracing::info!(redis = redacted(url), namespace = settings.namespace, "wake-ups go through redis")
            }
            None => tracing::info!("wake-ups stay in this process: there is no redis"),
        }
        tracing::info!(
            rules = %rules.version(),
            origin = rules.origin(),
            default_timezone = settings.default_timezone,
            "time zones are read by these rules"
        );
        if self.role.runs(Role::Worker) {
            let concurrency = settings.concurrency;
            tracing::info!(queues = settings.queues.join(","), concurrency, "the worker takes runs of these queues");
        }
        if self.role.runs(Role::Monitor) && settings.recheck > settings.lease {
            tracing::info!(recheck_ms = whole_ms(settings.lease), "the recheck is as frequent as the lease demands");
        }
        match self.sealer.key_ids().next() {
            Some(key) => tracing::info!(key, "secrets of documents are sealed under this key"),
            None if self.role == Role::Monitor => {}
            None => tracing::warn!("there is no --secret-key: documents with secrets are refused, sealed ones wait"),
        }
        if self.role.runs(Role::Api) && settings.api_token.is_none() && settings.insecure_listen {
            tracing::warn!("until there is a key the api asks nobody for one");
        }
    }

    /// `None` where a key is needed, or something else keeps strangers out.
    fn own_names(&self) -> Option<Names> {
        let settings = self.settings;
        let is_open = settings.api_token.is_none() && !settings.is_reachable();
        let public = settings.public_url.as_ref().and_then(|url| url.host_str().map(str::to_owned));
        (is_open && (!settings.insecure_listen || public.is_some())).then_some(Names { public })
    }

    async fn bind_api(&self) -> anyhow::Result<Option<Bound>> {
        if !self.role.runs(Role::Api) {
            return Ok(None);
        }
        let address = self.settings.listen.map_or_else(|| API_LISTEN.parse(), Ok)?;
        let bound = http::bind("--listen", address).await?;
        tracing::info!(listen = %bound.address, "the api, health and metrics listen");
        Ok(Some(bound))
    }

    async fn bind_ops(&self) -> anyhow::Result<Option<Bound>> {
        let address = match self.settings.ops_listen {
            Some(address) => address,
            None if self.role.runs(Role::Api) => return Ok(None),
            None => OPS_LISTEN.parse()?,
        };
        let bound = http::bind("--ops-listen", address).await?;
        tracing::info!(ops_listen = %bound.address, "health and metrics listen");
        Ok(Some(bound))
    }

    fn bus(&self) -> anyhow::Result<Arc<dyn Bus>> {
        let Some(url) = &self.settings.redis_url else { return Ok(Arc::new(LocalBus::new())) };
        Ok(Arc::new(redis_bus(url, self.settings, self.clock.clone(), &self.lifecycle)?))
    }

    /// The store, as soon as the database is there and its schema is what this version needs.
    async fn open_store(&self, migrate: bool) -> anyhow::Result<Arc<dyn Store>> {
        make_data_dir(self.settings)?;
        let url = self.settings.database();
        let mut waiting = false;
        loop {
            let error = match open_once(&url, self.settings, migrate).await {
                Ok(store) => return Ok(store),
                Err(error) => error,
            };
            if !error.is_passing() {
                return Err(error).with_context(|| format!("the database {} cannot be used", redacted(&url)));
            }
            if !waiting {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, database = redacted(&url), "waiting for the database");
                waiting = true;
            }
            self.clock.sleep(DATABASE_RETRY).await;
        }
    }

    fn context(&self, store: Arc<dyn Store>, bus: Arc<dyn Bus>) -> Context {
        let clock = DbClock::new(self.clock.clone());
        let set_back = clock.set_back();
        self.metrics.register(|registry| {
            let help = "Times the database's clock was seen to be set back by more than ten seconds";
            registry.register("database_clock_set_back", help, set_back);
        });
        Context {
            store,
            hints: Hinter::spawn(bus.clone(), self.clock.clone(), &self.lifecycle),
            bus,
            clock,
            metrics: self.metrics.clone(),
            tracer: self.traces.tracer.clone(),
            lifecycle: self.lifecycle.clone(),
            faults: self.settings.faults(),
        }
    }

    fn api_settings(&self) -> reveille_api::Settings {
        let mut targets = vec![TaskKind::Rest, TaskKind::Redis];
        if cfg!(feature = "kafka") {
            targets.push(TaskKind::Kafka);
        }
        reveille_api::Settings {
            default_timezone: self.settings.default_timezone.clone(),
            targets,
            connections: self.connections.iter().map(|(name, connection)| (name.clone(), connection.kind)).collect(),
            access: reveille_api::Access {
                token: self.settings.api_token.clone(),
                closed: self.settings.is_reachable(),
            },
            limits: reveille_api::Limits {
                requests_per_second: self.settings.rate_limit,
                schedules: self.settings.quota_schedules,
                due_per_minute: self.settings.quota_due_per_minute,
            },
            sealer: self.sealer.clone(),
            ..Default::default()
        }
    }

    fn monitor_settings(&self) -> reveille_monitor::Settings {
        let settings = self.settings;
        // An expired lease that no worker noticed is found by the recheck at the latest.
        let recheck = settings.recheck.min(settings.lease);
        reveille_monitor::Settings { recheck, beat: settings.beat, ttl: settings.monitor_ttl }
    }

    /// Which addresses tasks may call. A process that others can reach must not be talked into calling what listens on
    /// its own loopback, where much trusts whoever calls; one that listens there itself is among its own kind.
    fn targets(&self) -> reveille_worker::TargetPolicy {
        let mut deny = self.settings.targets_deny.clone();
        if !self.listens_on_loopback() {
            deny.extend(reveille_worker::LOOPBACK);
        }
        reveille_worker::TargetPolicy { deny, allow: self.settings.targets_allow.clone() }
    }

    fn listens_on_loopback(&self) -> bool {
        // Where an address is not set, the default is a loopback one.
        let api = self.settings.listen.filter(|_| self.role.runs(Role::Api));
        [api, self.settings.ops_listen].into_iter().flatten().all(|address| address.ip().is_loopback())
    }

    fn worker_settings(&self) -> reveille_worker::Settings {
        let settings = self.settings;
        reveille_worker::Settings {
            concurrency: settings.concurrency as usize,
            queues: settings.queues.clone(),
            lease: settings.lease,
            drain: settings.drain,
            name: settings.worker_name.clone().unwrap_or_else(worker_name),
            default_body: match settings.default_body {
                DefaultBody::Data => BodyMode::Data,
                DefaultBody::Schedule => BodyMode::Schedule,
            },
            targets: self.targets(),
            connections: self.connections.clone(),
            secrets: settings.secrets(),
            ca_file: settings.ca_file.clone(),
            egress_proxy: settings.egress_proxy.clone(),
            sealer: self.sealer.clone(),
            degraded_after: settings.degraded_after,
            degraded_check: settings.degraded_check,
        }
    }
}

/// The bus over Redis; connects on first use.
///
/// # Errors
/// When the URL or the file of certificate authorities cannot be used.
pub(crate) fn redis_bus(
    url: &str,
    settings: &Settings,
    clock: Arc<dyn Clock>,
    lifecycle: &Lifecycle,
) -> anyhow::Result<RedisBus> {
    let namespace = &settings.namespace;
    let bus = match &settings.ca_file {
        // Authorities make no difference without TLS, and the client refuses them then.
        Some(path) if url.starts_with("rediss:") => {
            let authorities = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            RedisBus::connect_trusting(authorities, url, namespace, clock, lifecycle)
        }
        _ => RedisBus::connect(url, namespace, clock, lifecycle),
    };
    bus.context("--redis-url cannot be used")
}

pub(crate) fn store_settings(settings: &Settings) -> StoreSettings {
    StoreSettings {
        retain_runs: settings.retain_runs,
        retain_dead: settings.retain_dead,
        retain_history: settings.retain_history,
        connections: settings.database_connections,
        deadline: store_deadline(settings),
        ..StoreSettings::default()
    }
}

/// How long a call of the database may take: short enough for a caller to be told, and for what has to be written before a
/// lease or the leader's term ends to be tried again.
fn store_deadline(settings: &Settings) -> Duration {
    let fits = settings.lease.min(2 * settings.monitor_ttl) / 4;
    fits.clamp(Duration::from_secs(1), Duration::from_secs(5))
}

async fn open_once(url: &str, settings: &Settings, migrate: bool) -> Result<Arc<dyn Store>, StoreError> {
    let store = store::open(url, store_settings(settings)).await?;
    let outcome = if migrate { store.migrate().await } else { store.schema_check().await };
    match outcome {
        Ok(()) => Ok(store),
        Err(error) => {
            store.close().await;
            Err(error)
        }
    }
}

/// Two workers may share a host, or a process id in two containers; not both.
fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let host = if host.is_empty() { "worker" } else { host };
    format!("{host}-{}", std::process::id())
}
