//! Gives a message to Redis: PUBLISH to a channel, XADD to a stream, LPUSH to a list; to a server, to the master of
//! a Sentinel group, or to the right node of a cluster.
//!
//! One connection per endpoint, made on demand and shared by all attempts. Nothing is redialled in the
//! background: a connection that broke is replaced by the next attempt.

mod command;
mod connect;

use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use reveille_shared::Context;
use reveille_shared::model::redis_url::{RedisUrl, Topology};
use reveille_shared::model::run::{Outcome, OutcomeCode};

use self::command::{Message, judge};
use self::connect::Dialler;
use super::Dispatch;
use super::pool::Pool;
use super::target::TargetPolicy;
use crate::call::{Answer, CONNECT_LIMIT, Call};
use crate::destination::Endpoint;

/// Nodes of a cluster asked for one message, at most: the first knows the right one, unless the slot is moving.
const REDIRECTS: usize = 5;

/// Gives messages to Redis.
pub(crate) struct Redis {
    context: Context,
    dialler: Dialler,
    pool: Pool<Key, MultiplexedConnection>,
}

impl Redis {
    /// Prepares everything; connects nowhere.
    pub(crate) fn new(context: &Context, targets: TargetPolicy) -> Self {
        Self { context: context.clone(), dialler: Dialler::new(context, targets), pool: Pool::new() }
    }

    /// Closes connections that nobody used for a while.
    pub(crate) fn close_idle(&self) {
        self.pool.close_idle(self.now());
    }

    async fn call(&self, call: &Call<'_>) -> Result<Answer, Outcome> {
        let endpoint = &call.destination.endpoint;
        let message = Message::of(call)?;
        let mut url = RedisUrl::parse(&endpoint.host)
            .map_err(|detail| Outcome::new(OutcomeCode::Refused, format!("connection.host {detail}")))?;
        // The server's configuration may hold the credentials apart from the URL.
        url.username = endpoint.username.clone().or(url.username);
        url.password = endpoint.password.clone().or(url.password);
        let answer = match url.topology {
            Topology::Cluster => self.send_to_cluster(endpoint, &url, &message).await?,
            _ => {
                let key = Key { endpoint: endpoint.clone(), node: None };
                self.send(&key, &url, &message, false).await.map_err(|failure| failure.outcome())?
            }
        };
        judge(call, &answer)
    }

    /// Sends to the node that has the key: the first one asked says which, if it is another.
    async fn send_to_cluster(&self, endpoint: &Endpoint, url: &RedisUrl, message: &Message) -> Result<Value, Outcome> {
        let key = Key { endpoint: endpoint.clone(), node: None };
        let mut asked = self.send(&key, url, message, false).await;
        for _ in 0..REDIRECTS {
            let Err(failure) = &asked else { break };
            let Some((node, asking)) = failure.redirect() else { break };
            let to = RedisUrl { topology: Topology::Single, nodes: vec![node.clone()], ..url.clone() };
            let key = Key { endpoint: endpoint.clone(), node: Some(node) };
            asked = self.send(&key, &to, message, asking).await;
        }
        asked.map_err(|failure| failure.outcome())
    }

    async fn send(&self, key: &Key, url: &RedisUrl, message: &Message, asking: bool) -> Result<Value, Failure> {
        let kept = match self.pool.get(key, self.now()) {
            Some(kept) => kept,
            None => {
                let clock = self.context.clock.clock();
                let dialled = tokio::select! {
                    dialled = self.dialler.dial(url, key.endpoint.ca_file.as_deref()) => dialled.map_err(Failure::Connect)?,
                    () = clock.sleep(CONNECT_LIMIT) => {
                        let detail = "no connection to the target: timed out";
                        return Err(Failure::Connect(Outcome::new(OutcomeCode::Connect, detail)));
                    }
                };
                self.pool.put(key, dialled, self.now())
            }
        };
        let sent = message.send(kept.value.clone(), asking).await;
        sent.map_err(|error| {
            // A server that answers keeps its connection, but for one that is not the master any more.
            let answered = matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension);
            if !answered || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
                self.pool.forget(key, &kept);
            }
            Failure::Command(error)
        })
    }

    fn now(&self) -> Duration {
        self.context.clock.clock().monotonic()
    }
}

#[async_trait]
impl Dispatch for Redis {
    async fn dispatch(&self, call: &Call<'_>) -> Answer {
        self.call(call).await.unwrap_or_else(Answer::from)
    }
}

/// What one connection serves.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    endpoint: Endpoint,
    /// The node of a cluster that another one named.
    node: Option<(String, u16)>,
}

/// Why a message was not taken.
enum Failure {
    /// There was no connection: nothing was sent.
    Connect(Outcome),
    /// The server answered an error, or the connection broke.
    Command(RedisError),
}

impl Failure {
    /// Which node of the cluster to ask instead, and whether only for this once.
    fn redirect(&self) -> Option<((String, u16), bool)> {
        let Self::Command(error) = self else { return None };
        let (address, _slot) = error.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(((host, port.parse().ok()?), error.kind() == ErrorKind::Server(ServerErrorKind::Ask)))
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Connect(outcome) => outcome,
            Self::Command(error) => failure_of(&error),
        }
    }
}

/// What went wrong, told by the server's error code or the kind of the failure: its sentence may quote the message.
fn failure_of(error: &RedisError) -> Outcome {
    // Of commands that go together, the first that was refused.
    let refused =
        error.clone().into_server_errors().and_then(|errors| errors.first().map(|(_, error)| error.code().to_owned()));
    let code = refused.as_deref().or(error.code());
    match (error.kind(), code) {
        (_, Some("WRONGTYPE")) => {
            Outcome::new(OutcomeCode::Rejected, "the topic is a key that holds another type of value (WRONGTYPE)")
        }
        (ErrorKind::Server(ServerErrorKind::ResponseError), _) => {
            Outcome::new(OutcomeCode::Rejected, "the server answered an error")
        }
        (_, Some(code)) => Outcome::new(OutcomeCode::Rejected, format!("the server answered {code}")),
        (ErrorKind::AuthenticationFailed, _) => {
            Outcome::new(OutcomeCode::Rejected, "the server did not accept the credentials")
        }
        _ => Outcome::new(OutcomeCode::Transport, "the connection to the target broke before it answered"),
    }
}
