//! A subscription: a connection of its own that is listened to for ever.
//!
//! ```text
//!   dial ─▶ SUBSCRIBE ─▶ acknowledged ─▶ GET ─▶ Connected(state) ─▶ messages ─┐
//!    ▲                                                                        │ closed, or PING unanswered
//!    └──────────────── 50 ms … 1 s ◀──────────────── Disconnected ◀───────────┘
//! ```
//!
//! The GET (for wake states; stages have none) comes after the acknowledgement: whatever is lowered before it is in the answer, whatever is
//! lowered after it is a message. The other order has a gap, and a wake in it is lost.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{ErrorKind, RedisError, Value};
use async_trait::async_trait;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::Names;
use super::commands::Commands;
use super::message::Message;
use super::patience::{DIAL_LIMIT, REPLY_LIMIT, within};
use super::servers::{Server, Servers};
use crate::bus::stage::{RunStage, StageFeed, StageNews};
use crate::bus::subscription::Feed;
use crate::bus::{BusError, BusEvent};
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::Clock;

/// Silence after which the connection is asked whether it lives. TCP alone says nothing for hours when
/// the other end vanished.
const PING_AFTER: Duration = Duration::from_secs(5);
/// How long that answer may take.
const PING_LIMIT: Duration = Duration::from_secs(3);

/// What a subscription is for.
#[async_trait]
pub(super) trait Ear: Send + Sync + 'static {
    /// The channel.
    fn channel(&self) -> &str;

    /// The subscription is acknowledged, at start and after every reconnect.
    async fn connected(&self) -> Result<(), BusError>;

    /// A message came.
    fn heard(&self, payload: &[u8]);

    /// The connection is gone.
    fn disconnected(&self);
}

/// Hears wake states.
pub(super) struct WakeEar {
    pub(super) commands: Arc<Commands>,
    pub(super) names: Names,
    pub(super) feed: Feed,
}

#[async_trait]
impl Ear for WakeEar {
    fn channel(&self) -> &str {
        &self.names.wake
    }

    async fn connected(&self) -> Result<(), BusError> {
        let state = match self.commands.read(&self.names).await {
            // Lived over as if it were missing, as the scripts do.
            Err(BusError::Unreadable(_)) => None,
            outcome => outcome?,
        };
        self.feed.put(BusEvent::Connected(state));
        Ok(())
    }

    fn heard(&self, payload: &[u8]) {
        // What cannot be read is from another version; the heartbeats of a monitor keep us right.
        match serde_json::from_slice(payload) {
            Ok(Message::Wake { state }) => self.feed.put(BusEvent::Wake(state)),
            Ok(Message::Nudge { state }) => self.feed.put(BusEvent::Nudge(state)),
            Ok(Message::Heartbeat { state }) => self.feed.put(BusEvent::Heartbeat(state)),
            Ok(Message::Soon { at }) => self.feed.put(BusEvent::Soon(at)),
            Ok(Message::Resigned) => self.feed.put(BusEvent::Resigned),
            Ok(Message::StagesWanted) => self.feed.put(BusEvent::StagesWanted),
            Ok(Message::BacklogWanted) => self.feed.put(BusEvent::BacklogWanted),
            Err(_) => true,
        };
    }

    fn disconnected(&self) {
        self.feed.put(BusEvent::Disconnected);
    }
}

/// Hears stages of runs.
pub(super) struct StageEar {
    channel: String,
    feed: StageFeed,
}

impl StageEar {
    pub(super) fn new(channel: String, feed: StageFeed) -> Self {
        Self { channel, feed }
    }

    fn put(&self, news: StageNews) {
        // An error says that nobody watches any more: the subscription is about to end.
        let _ = self.feed.send(news);
    }
}

#[async_trait]
impl Ear for StageEar {
    fn channel(&self) -> &str {
        &self.channel
    }

    async fn connected(&self) -> Result<(), BusError> {
        Ok(())
    }

    fn heard(&self, payload: &[u8]) {
        let stages: Result<Vec<RunStage>, _> = serde_json::from_slice(payload);
        // What another version tells and this one cannot read is lost, and said to be.
        self.put(stages.map_or(StageNews::Gap, |stages| StageNews::Told(stages.into())));
    }

    fn disconnected(&self) {
        self.put(StageNews::Gap);
    }
}

pub(super) struct Listener<E> {
    pub(super) servers: Arc<Servers>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ear: E,
}

impl<E: Ear> Listener<E> {
    /// Listens until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.listen() => {}
        }
    }

    async fn listen(&self) {
        let mut outage = Outage::default();
        let mut backoff = Backoff::new();
        loop {
            let error = match self.connect().await {
                Ok(connection) => {
                    outage.over(self.ear.channel());
                    backoff.reset();
                    let error = self.hear(connection).await;
                    self.ear.disconnected();
                    BusError::Unavailable(error)
                }
                Err(error) => error,
            };
            outage.begins(self.ear.channel(), &error);
            self.clock.sleep(backoff.pause()).await;
        }
    }

    async fn connect(&self) -> Result<Connection, BusError> {
        let connection = self.subscribe().await.map_err(BusError::Unavailable)?;
        self.ear.connected().await?;
        Ok(connection)
    }

    async fn subscribe(&self) -> Result<Connection, RedisError> {
        let server = self.servers.find().await?;
        let (mut requests, messages) = within(DIAL_LIMIT, server.client.get_async_pubsub()).await?.split();
        within(REPLY_LIMIT, requests.subscribe(self.ear.channel())).await?;
        Ok(Connection { requests, messages, server })
    }

    /// Passes on what comes, until the connection is dead.
    async fn hear(&self, mut connection: Connection) -> RedisError {
        loop {
            tokio::select! {
                message = connection.messages.next() => match message {
                    Some(message) => self.ear.heard(message.get_payload_bytes()),
                    None => return RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
                },
                () = self.clock.sleep(PING_AFTER) => {
                    let pong: Result<Value, _> = within(PING_LIMIT, connection.requests.ping()).await;
                    if let Err(error) = pong {
                        return error;
                    }
                    if !self.servers.is_current(&connection.server).await {
                        return RedisError::from((ErrorKind::Client, "another server has taken over"));
                    }
                }
            }
        }
    }
}

struct Connection {
    requests: ::redis::aio::PubSubSink,
    messages: ::redis::aio::PubSubStream,
    server: Server,
}

/// Says once that Redis is away and once that it is back.
#[derive(Default)]
struct Outage {
    said: bool,
}

impl Outage {
    fn begins(&mut self, channel: &str, error: &BusError) {
        if !self.said {
            let error: &dyn std::error::Error = error;
            tracing::warn!(channel, error, "bus channel lost, reconnecting");
            self.said = true;
        }
    }

    fn over(&mut self, channel: &str) {
        if self.said {
            tracing::info!(channel, "bus channel back");
            self.said = false;
        }
    }
}
