//! Producers: how they are set up, which addresses they may connect to, and how long they are kept.
//!
//! librdkafka connects by itself, so addresses are judged around it: the bootstrap list before a producer is made, the
//! brokers that the cluster names before the first record is sent, and both again every minute of use. Without TLS
//! it is given the judged addresses, not the names. What is left open: a broker list that changes between two looks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use reveille_shared::model::run::{Outcome, OutcomeCode};
use reveille_shared::runtime::Context;
use reveille_shared::runtime::lifecycle::Lifecycle;

use super::failure_of;
use crate::destination::Endpoint;
use crate::dispatch::pool::{Kept, Pool};
use crate::dispatch::target::{AddressRefused, TargetPolicy, permitted_addresses};

/// Port of a broker that names none.
const PORT: u16 = 9092;
/// How long a cluster may take to name its brokers.
const METADATA_LIMIT: Duration = Duration::from_secs(5);
/// How long a broker's name may take to be resolved.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);
/// How often the addresses of a producer in use are judged again.
const JUDGED_FOR: Duration = Duration::from_secs(60);

/// What one producer serves: its records wait as long as the task's timeout allows.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    endpoint: Endpoint,
    patience: Duration,
}

/// The producers of this worker.
pub(super) struct Producers {
    context: Context,
    targets: TargetPolicy,
    pool: Pool<Key, Producer>,
    /// One is made at a time: two calls that find none would make two.
    making: tokio::sync::Mutex<()>,
}

impl Producers {
    pub(super) fn new(context: &Context, targets: TargetPolicy) -> Self {
        Self { context: context.clone(), targets, pool: Pool::new(), making: tokio::sync::Mutex::new(()) }
    }

    pub(super) fn close_idle(&self, now: Duration) {
        self.pool.close_idle(now);
    }

    pub(super) fn forget(&self, producer: &Kept<Producer>) {
        self.pool.forget(&producer.value.0.key, producer);
    }

    /// A producer whose brokers may be connected to.
    ///
    /// # Errors
    /// Why there is none, as an outcome.
    pub(super) async fn get(
        &self,
        endpoint: &Endpoint,
        patience: Duration,
        topic: &str,
    ) -> Result<Kept<Producer>, Outcome> {
        let key = Key { endpoint: endpoint.clone(), patience };
        if let Some(kept) = self.judged(&key) {
            return Ok(kept);
        }
        let _making = self.making.lock().await;
        if let Some(kept) = self.judged(&key) {
            return Ok(kept);
        }
        let kept = match self.pool.get(&key, self.now()) {
            Some(kept) => kept,
            None => {
                let bootstrap = self.bootstrap(&key.endpoint).await?;
                let (config, lifecycle) = (config(&key, &bootstrap), self.context.lifecycle.clone());
                let made = self.blocking(move || config.create_with_context(Quiet)).await?;
                let client = made.map_err(|error| failure_of(&error))?;
                let inner = Inner {
                    key: key.clone(),
                    client: Mutex::new(Some(client)),
                    judged_at: AtomicU64::new(0),
                    broken: AtomicBool::new(false),
                    lifecycle,
                };
                self.pool.put(&key, Producer(Arc::new(inner)), self.now())
            }
        };
        if let Err(outcome) = self.judge_brokers(&kept.value, topic).await {
            self.pool.forget(&key, &kept);
            return Err(outcome);
        }
        let now = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
        kept.value.0.judged_at.store(now, Ordering::Relaxed);
        Ok(kept)
    }

    /// A producer that was judged a short while ago.
    fn judged(&self, key: &Key) -> Option<Kept<Producer>> {
        let kept = self.pool.get(key, self.now())?;
        let judged_at = Duration::from_millis(kept.value.0.judged_at.load(Ordering::Relaxed));
        (judged_at > Duration::ZERO && self.now() < judged_at + JUDGED_FOR).then_some(kept)
    }

    /// The bootstrap list with what may be connected to.
    async fn bootstrap(&self, endpoint: &Endpoint) -> Result<String, Outcome> {
        let mut brokers = Vec::new();
        for broker in endpoint.host.split(',') {
            let (host, port) = host_and_port(broker.trim());
            let addresses = self.permitted(&host, port).await?;
            if endpoint.tls {
                brokers.push(broker.trim().to_owned()); // its certificate has the name
            } else {
                brokers.extend(addresses.iter().map(SocketAddr::to_string));
            }
        }
        Ok(brokers.join(","))
    }

    /// Asks the cluster who its brokers are, and judges their addresses.
    async fn judge_brokers(&self, producer: &Producer, topic: &str) -> Result<(), Outcome> {
        let (inner, topic) = (producer.0.clone(), topic.to_owned());
        let limit = METADATA_LIMIT.min(inner.key.patience);
        let brokers = self.blocking(move || inner.brokers(&topic, limit)).await?;
        for (host, port) in brokers.map_err(|error| failure_of(&error))? {
            self.permitted(&host, port).await?;
        }
        Ok(())
    }

    async fn permitted(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Outcome> {
        let unresolved = || Outcome::new(OutcomeCode::Connect, "a broker's name could not be resolved");
        tokio::select! {
            found = permitted_addresses(&self.targets, host, port) => found.map_err(|error| match error {
                Ok(AddressRefused) => Outcome::new(OutcomeCode::Refused, AddressRefused.to_string()),
                Err(_) => unresolved(),
            }),
            () = self.context.clock.clock().sleep(RESOLVE_LIMIT) => Err(unresolved()),
        }
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Outcome> {
        let done = self.context.lifecycle.run_blocking(work).await;
        done.ok_or_else(|| Outcome::new(OutcomeCode::Transport, "the producer ended before the broker answered"))
    }

    fn now(&self) -> Duration {
        self.context.clock.clock().monotonic()
    }
}

/// A producer. Cloning shares it.
#[derive(Clone)]
pub(super) struct Producer(Arc<Inner>);

struct Inner {
    key: Key,
    /// `None` while it is dropped.
    client: Mutex<Option<FutureProducer<Quiet>>>,
    /// When its brokers were judged, milliseconds of the monotonic clock.
    judged_at: AtomicU64,
    /// It takes no record any more.
    broken: AtomicBool,
    lifecycle: Lifecycle,
}

impl Producer {
    /// Queues a record; the future answers with what the broker said.
    pub(super) fn send(&self, record: FutureRecord<'_, String, [u8]>) -> KafkaResult<DeliveryFuture> {
        let client = self.0.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = client.as_ref().ok_or(KafkaError::Canceled)?;
        let sent = client.send_result(record).map_err(|(error, _record)| error);
        if client.client().fatal_error().is_some() {
            self.0.broken.store(true, Ordering::Relaxed);
        }
        sent
    }

    /// Whether it must be replaced: an idempotent producer that lost its place takes nothing any more.
    pub(super) fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Relaxed)
    }
}

impl Inner {
    fn brokers(&self, topic: &str, limit: Duration) -> KafkaResult<Vec<(String, u16)>> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let client = client.ok_or(KafkaError::Canceled)?;
        let metadata = client.client().fetch_metadata(Some(topic), limit)?;
        let named = metadata.brokers().iter();
        Ok(named.map(|broker| (broker.host().to_owned(), u16::try_from(broker.port()).unwrap_or(PORT))).collect())
    }
}

impl Drop for Inner {
    /// Ends threads and waits for them: not on a thread that others need.
    fn drop(&mut self) {
        if let Some(client) = self.client.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            self.lifecycle.drop_blocking(client);
        }
    }
}

/// Its sentences name brokers and repeat themselves; what matters of them is in the outcomes.
#[derive(Clone)]
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka says");
    }

    fn error(&self, error: KafkaError, _reason: &str) {
        tracing::debug!(error = %error, "a kafka client has an error");
    }
}

fn config(key: &Key, bootstrap: &str) -> ClientConfig {
    let Key { endpoint, patience } = key;
    let patience_ms = patience.as_millis().max(1).to_string();
    // One request must fit into the patience, or a broker that is away would be noticed long after it.
    let request_ms = patience.as_millis().clamp(10, 5000).to_string();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("client.id", "reveille")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", patience_ms)
        .set("request.timeout.ms", &request_ms)
        .set("socket.timeout.ms", &request_ms)
        .set("socket.connection.setup.timeout.ms", patience.as_millis().clamp(1000, 5000).to_string())
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        .set("linger.ms", "1")
        // Memory, in KiB, for records that wait.
        .set("queue.buffering.max.kbytes", "65536");
    let security = match (endpoint.tls, endpoint.sasl_mechanism.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    config.set("security.protocol", security);
    if let Some(mechanism) = &endpoint.sasl_mechanism {
        config.set("sasl.mechanism", mechanism);
        config.set("sasl.username", endpoint.username.as_deref().unwrap_or_default());
        config.set("sasl.password", endpoint.password.as_deref().unwrap_or_default());
    }
    if endpoint.tls {
        let authorities = endpoint.ca_file.as_ref().map_or("probe".into(), |path| path.to_string_lossy());
        config.set("ssl.ca.location", authorities);
    }
    config
}

fn host_and_port(broker: &str) -> (String, u16) {
    // The colons of an IPv6 address are inside its brackets.
    let name_end = broker.find(']').map_or(0, |bracket| bracket + 1);
    let (name, port) = match broker[name_end..].split_once(':') {
        Some((rest, port)) => (&broker[..name_end + rest.len()], port.parse().unwrap_or(PORT)),
        None => (broker, PORT),
    };
    (name.trim_start_matches('[').trim_end_matches(']').to_owned(), port)
}
