//! What stands around a measurement: servers, sinks, the product's processes, the peers' and the loads.

pub(crate) mod base;
pub(crate) mod deployment;
pub(crate) mod embedded;
pub(crate) mod load;
pub(crate) mod nginx;
pub(crate) mod peers;
pub(crate) mod postgres;
pub(crate) mod sink;
pub(crate) mod template;

use std::path::PathBuf;

use anyhow::Result;
use reveille_testkit::Redis;

use self::deployment::Subject;
use self::nginx::Nginx;
use self::peers::Peers;
use self::postgres::Server;
use self::sink::Sink;

/// Everything that lives as long as the benchmark.
pub(crate) struct Rig {
    pub(crate) server: Server,
    /// Without persistence, which the product does not need of it.
    pub(crate) redis: Redis,
    pub(crate) traffic: Traffic,
    /// The sink that knows when each call came.
    pub(crate) sink: Sink,
    pub(crate) ours: Subject,
    pub(crate) base: Option<Subject>,
    pub(crate) peers: Option<Peers>,
    /// What is left out, and why.
    pub(crate) left_out: Vec<String>,
}

/// The sink of throughput: cheap, and counting.
pub(crate) enum Traffic {
    Nginx(Nginx),
    /// Where nginx is not installed. Dearer, the same for all.
    Own(Sink),
}

/// Calls since it began.
pub(crate) enum Counter<'a> {
    Nginx(Box<nginx::Counter>),
    Own { sink: &'a Sink, before: usize },
}

impl Rig {
    /// The subjects of every round, the one that is judged first.
    pub(crate) fn subjects(&self) -> Vec<&Subject> {
        std::iter::once(&self.ours).chain(&self.base).collect()
    }

    pub(crate) async fn start(server: Server, ours: PathBuf) -> Result<Self> {
        let Some(nginx) = Nginx::start().await? else {
            let mut rig = Self::with_sink(server, ours, Traffic::own().await?).await?;
            rig.left_out.push("nginx is not installed: the benchmark's own sink takes its place".to_owned());
            return Ok(rig);
        };
        Self::with_sink(server, ours, Traffic::Nginx(nginx)).await
    }

    pub(crate) async fn with_sink(server: Server, ours: PathBuf, traffic: Traffic) -> Result<Self> {
        Ok(Self {
            server,
            redis: Redis::start().await,
            traffic,
            sink: Sink::start().await?,
            ours: Subject { name: "ours", binary: ours },
            base: None,
            peers: None,
            left_out: Vec::new(),
        })
    }
}

impl Traffic {
    pub(crate) async fn own() -> Result<Self> {
        Ok(Self::Own(Sink::start().await?))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    pub(crate) fn address(&self) -> String {
        match self {
            Self::Nginx(nginx) => nginx.address().to_owned(),
            Self::Own(sink) => sink.address(),
        }
    }

    pub(crate) async fn counter(&self) -> Result<Counter<'_>> {
        Ok(match self {
            Self::Nginx(nginx) => Counter::Nginx(Box::new(nginx.counter().await?)),
            Self::Own(sink) => Counter::Own { sink, before: sink.count() },
        })
    }
}

impl Counter<'_> {
    pub(crate) async fn count(&mut self) -> Result<u64> {
        match self {
            Self::Nginx(counter) => counter.count().await,
            Self::Own { sink, before } => Ok(u64::try_from(sink.count().saturating_sub(*before))?),
        }
    }
}
