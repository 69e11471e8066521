//! Producers: which addresses they may connect to, how they are made, and how long they are kept.
//!
//! librdkafka connects by itself, and has no place where addresses could be judged without unsafe code, so they are
//! judged around it: the bootstrap list before a producer is made, the brokers that the cluster names before the
//! first record is sent, and again every minute of use. Without TLS it is given the bootstrap list's judged addresses
//! in place of the names. What is left open: a name that changes its meaning, or a cluster its brokers, between two
//! looks; and the greeting (no record) that librdkafka may send to a broker that the cluster named a moment ago.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use reveille_shared::Context;
use reveille_shared::model::brokers;
use reveille_shared::model::run::{Outcome, OutcomeCode};
use reveille_shared::runtime::lifecycle::Lifecycle;

use super::failure;
use super::settings::{Key, config};
use super::turns::Turns;
use crate::destination::Endpoint;
use crate::dispatch::pool::{Kept, Pool};
use crate::dispatch::target::{AddressRefused, TargetPolicy, judge_host, permitted_addresses};

/// Producers kept at most: each has some threads.
const KEPT: usize = 64;
/// How long a cluster may take to name its brokers.
const METADATA_LIMIT: Duration = Duration::from_secs(5);
/// How long a broker's name may take to be resolved.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);
/// How often the addresses of a producer in use are judged again.
const JUDGED_FOR: Duration = Duration::from_secs(60);

/// The producers of this worker.
pub(super) struct Producers {
    context: Context,
    targets: TargetPolicy,
    pool: Pool<Key, Producer>,
    /// Two calls that find none would make two.
    turns: Turns<Key>,
}

impl Producers {
    pub(super) fn new(context: &Context, targets: TargetPolicy) -> Self {
        Self { context: context.clone(), targets, pool: Pool::keeping(KEPT), turns: Turns::new() }
    }

    pub(super) fn close_idle(&self, now: Duration) {
        self.pool.close_idle(now);
        self.turns.tidy();
    }

    pub(super) fn forget(&self, producer: &Kept<Producer>) {
        self.pool.forget(&producer.value.0.key, producer);
    }

    /// A producer whose brokers may be connected to.
    ///
    /// # Errors
    /// Why there is none, as an outcome.
    pub(super) async fn get(&self, key: &Key, topic: &str) -> Result<Kept<Producer>, Outcome> {
        if let Some(kept) = self.judged(key) {
            return Ok(kept);
        }
        let work = async {
            match self.judged(key) {
                Some(kept) => Ok(kept),
                None => self.judge(key, topic).await,
            }
        };
        self.turns.take(key, self.context.clock.clock().as_ref(), work).await
    }

    /// A producer that was judged a short while ago.
    fn judged(&self, key: &Key) -> Option<Kept<Producer>> {
        let kept = self.pool.get(key, self.now())?;
        let judged_at = Duration::from_millis(kept.value.0.judged_at.load(Ordering::Relaxed));
        (judged_at > Duration::ZERO && self.now() < judged_at + JUDGED_FOR).then_some(kept)
    }

    /// The producer that is there, or a new one, once its brokers were judged.
    async fn judge(&self, key: &Key, topic: &str) -> Result<Kept<Producer>, Outcome> {
        let kept = match self.pool.get(key, self.now()) {
            Some(kept) => kept,
            None => self.pool.put(key, self.make(key).await?, self.now()),
        };
        if let Err(outcome) = self.judge_brokers(&kept.value, topic).await {
            self.pool.forget(key, &kept);
            return Err(outcome);
        }
        let now = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
        kept.value.0.judged_at.store(now, Ordering::Relaxed);
        Ok(kept)
    }

    async fn make(&self, key: &Key) -> Result<Producer, Outcome> {
        let bootstrap = self.bootstrap(&key.endpoint).await?;
        let (config, ears) = (config(key, &bootstrap), Ears::default());
        let heard = ears.heard.clone();
        let made = self.blocking(move || config.create_with_context(ears)).await?;
        let client = made.map_err(|error| failure::before_sending(&error))?;
        Ok(Producer(Arc::new(Inner {
            key: key.clone(),
            client: Mutex::new(Some(client)),
            heard,
            judged_at: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            lifecycle: self.context.lifecycle.clone(),
        })))
    }

    /// The bootstrap list with what may be connected to.
    async fn bootstrap(&self, endpoint: &Endpoint) -> Result<String, Outcome> {
        let named = brokers_of(endpoint)?;
        let mut usable = Vec::new();
        for (host, port) in named {
            // With TLS its certificate has the name.
            if endpoint.tls {
                let judged = self.resolved(judge_host(&self.targets, &host, port)).await?;
                usable.extend(judged.map(|()| authority(&host, port)));
            } else {
                let addresses = self.resolved(permitted_addresses(&self.targets, &host, port)).await?;
                usable.extend(addresses.unwrap_or_default().iter().map(SocketAddr::to_string));
            }
        }
        if usable.is_empty() { Err(unresolved()) } else { Ok(usable.join(",")) }
    }

    /// Asks the cluster who its brokers are, and judges them, and what else librdkafka knows by name.
    async fn judge_brokers(&self, producer: &Producer, topic: &str) -> Result<(), Outcome> {
        let (inner, topic) = (producer.0.clone(), topic.to_owned());
        let limit = METADATA_LIMIT.min(inner.key.patience);
        let answer = self.blocking(move || inner.brokers(&topic, limit)).await?;
        let mut named = answer.map_err(|error| producer.0.why_no_brokers(&error))?;
        let endpoint = &producer.0.key.endpoint;
        if endpoint.tls {
            named.extend(brokers_of(endpoint)?);
        }
        let mut has_address = false;
        for (host, port) in named {
            has_address |= self.resolved(judge_host(&self.targets, &host, port)).await?.is_some();
        }
        if has_address { Ok(()) } else { Err(unresolved()) }
    }

    /// What a name was resolved to; nothing when it could not be: with a broker that is away its name may be.
    async fn resolved<T>(
        &self,
        judging: impl Future<Output = Result<T, Result<AddressRefused, std::io::Error>>>,
    ) -> Result<Option<T>, Outcome> {
        tokio::select! {
            judged = judging => match judged {
                Ok(found) => Ok(Some(found)),
                Err(Ok(refused)) => Err(Outcome::new(OutcomeCode::Refused, refused.to_string())),
                Err(Err(_)) => Ok(None),
            },
            () = self.context.clock.clock().sleep(RESOLVE_LIMIT) => Ok(None),
        }
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Outcome> {
        let done = self.context.lifecycle.run_blocking(work).await;
        done.ok_or_else(|| Outcome::new(OutcomeCode::Connect, "the worker could not start a producer"))
    }

    fn now(&self) -> Duration {
        self.context.clock.clock().monotonic()
    }
}

fn brokers_of(endpoint: &Endpoint) -> Result<Vec<(String, u16)>, Outcome> {
    let refusal = |detail| Outcome::new(OutcomeCode::Refused, format!("connection.host {detail}"));
    brokers::parse(&endpoint.host).map_err(refusal)
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn unresolved() -> Outcome {
    Outcome::new(OutcomeCode::Connect, "no broker's name could be resolved")
}

/// A producer. Cloning shares it.
#[derive(Clone)]
pub(super) struct Producer(Arc<Inner>);

struct Inner {
    key: Key,
    /// `None` while it is dropped.
    client: Mutex<Option<FutureProducer<Ears>>>,
    heard: Heard,
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
        let Some((reason, _sentence)) = client.client().fatal_error() else { return sent };
        self.0.broken.store(true, Ordering::Relaxed);
        sent.map_err(|_| KafkaError::MessageProduction(reason))
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
        Ok(named.map(|broker| (broker.host().to_owned(), u16::try_from(broker.port()).unwrap_or_default())).collect())
    }

    /// librdkafka goes on trying whatever happens, and says meanwhile what did.
    fn why_no_brokers(&self, error: &KafkaError) -> Outcome {
        match *self.heard.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(RDKafkaErrorCode::SSL) => failure::outcome(OutcomeCode::Connect, RDKafkaErrorCode::SSL),
            Some(code) => failure::outcome(OutcomeCode::Rejected, code),
            None => failure::before_sending(error),
        }
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

/// Why a broker that is there is not let in, or lets nobody in: heard last.
type Heard = Arc<Mutex<Option<RDKafkaErrorCode>>>;

/// Hears what librdkafka says. Its sentences name brokers and repeat themselves; the codes are in the outcomes.
#[derive(Clone, Default)]
struct Ears {
    heard: Heard,
}

impl ClientContext for Ears {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka says");
    }

    fn error(&self, error: KafkaError, _reason: &str) {
        tracing::debug!(error = %error, "a kafka client has an error");
        let code = error.rdkafka_error_code();
        if let Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) = code {
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = code;
        }
    }
}
