//! The subscription: a connection of its own that is listened to for ever.
//!
//! ```text
//!   dial ─▶ SUBSCRIBE ─▶ acknowledged ─▶ GET ─▶ Connected(state) ─▶ messages ─┐
//!    ▲                                                                        │ closed, or PING unanswered
//!    └──────────────── 50 ms … 1 s ◀──────────────── Disconnected ◀───────────┘
//! ```
//!
//! The GET comes after the acknowledgement: whatever is lowered before it is in the answer, whatever is
//! lowered after it is a message. The other order has a gap, and a wake in it is lost.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Client, Msg, RedisError, Value};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::Names;
use super::commands::{Commands, DIAL_LIMIT, REPLY_LIMIT, within};
use super::message::Message;
use crate::bus::subscription::Feed;
use crate::bus::{BusError, BusEvent};
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::Clock;

/// Silence after which the connection is asked whether it lives. TCP alone says nothing for hours when
/// the other end vanished.
const PING_AFTER: Duration = Duration::from_secs(5);
/// How long that answer may take.
const PING_LIMIT: Duration = Duration::from_secs(3);

pub(super) struct Listener {
    pub(super) client: Client,
    pub(super) commands: Arc<Commands>,
    pub(super) names: Names,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) feed: Feed,
}

impl Listener {
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
                    outage.over();
                    backoff.reset();
                    let error = self.hear(connection).await;
                    self.feed.put(BusEvent::Disconnected);
                    BusError::Unavailable(error)
                }
                Err(error) => error,
            };
            outage.begins(&error);
            self.clock.sleep(backoff.pause()).await;
        }
    }

    async fn connect(&self) -> Result<Connection, BusError> {
        let connection = self.subscribe().await.map_err(BusError::Unavailable)?;
        let state = match self.commands.read(&self.names).await {
            // Lived over as if it were missing, as the scripts do.
            Err(BusError::Unreadable(_)) => None,
            outcome => outcome?,
        };
        self.feed.put(BusEvent::Connected(state));
        Ok(connection)
    }

    async fn subscribe(&self) -> Result<Connection, RedisError> {
        let (mut requests, messages) = within(DIAL_LIMIT, self.client.get_async_pubsub()).await?.split();
        within(REPLY_LIMIT, requests.subscribe(&self.names.wake)).await?;
        Ok(Connection { requests, messages })
    }

    /// Passes on what comes, until the connection is dead.
    async fn hear(&self, mut connection: Connection) -> RedisError {
        loop {
            tokio::select! {
                message = connection.messages.next() => match message {
                    Some(message) => self.deliver(&message),
                    None => return RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
                },
                () = self.clock.sleep(PING_AFTER) => {
                    let pong: Result<Value, _> = within(PING_LIMIT, connection.requests.ping()).await;
                    if let Err(error) = pong {
                        return error;
                    }
                }
            }
        }
    }

    fn deliver(&self, message: &Msg) {
        // What cannot be read is from another version; the heartbeats of a monitor keep us right.
        match serde_json::from_slice(message.get_payload_bytes()) {
            Ok(Message::Wake(state)) => self.feed.put(BusEvent::Wake(state)),
            Ok(Message::Nudge(state)) => self.feed.put(BusEvent::Nudge(state)),
            Ok(Message::Heartbeat(state)) => self.feed.put(BusEvent::Heartbeat(state)),
            Ok(Message::Resigned) => self.feed.put(BusEvent::Resigned),
            Err(_) => true,
        };
    }
}

struct Connection {
    requests: ::redis::aio::PubSubSink,
    messages: ::redis::aio::PubSubStream,
}

/// Says once that Redis is away and once that it is back.
#[derive(Default)]
struct Outage {
    said: bool,
}

impl Outage {
    fn begins(&mut self, error: &BusError) {
        if !self.said {
            let error: &dyn std::error::Error = error;
            tracing::warn!(error, "wake channel lost, reconnecting");
            self.said = true;
        }
    }

    fn over(&mut self) {
        if self.said {
            tracing::info!("wake channel back");
            self.said = false;
        }
    }
}
