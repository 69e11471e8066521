//! The WebSocket at `/graphql`: the protocol graphql-transport-ws, within limits.
//!
//! ```text
//!   upgrade ─▶ connection_init within 10 s ─▶ ack ─▶ subscribe … complete ─▶ closed by either side
//!                     │ none: 4408                        │ pinged every 20 s, silent for 50 s: closed
//!                     └ refused: 4403                     └ process stops: 1001
//! ```
//!
//! A page of another site may open a WebSocket without asking first, so the origin is checked here. Browsers
//! cannot set headers on one either: a connection that the door let in without a token brings it in its
//! `connection_init`, see [`TokenInInit`].

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_graphql::http::{ClientMessage, WebSocket as Protocol, WebSocketProtocols, WsMessage};
use async_graphql::{Data, Error, Executor, Request as GraphqlRequest, Response as Answer, ServerError};
use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::response::Response;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt, stream};
use reveille_shared::Context;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::errors::{LIMIT, with_code};
use super::{Graphql, GraphqlSchema};
use crate::auth::Caller;
use crate::error::Problem;
use crate::service::Service;

/// The one protocol spoken.
const PROTOCOL: &str = "graphql-transport-ws";
/// Connections of a process, at most.
const CONNECTIONS_MAX: usize = 1_000;
/// Operations of a connection at the same time, at most.
const OPERATIONS_MAX: usize = 32;
/// Largest message, in bytes: as a body of REST.
const MESSAGE_MAX: usize = 256 * 1024;
/// How long a connection may take to say who it is.
const INIT_LIMIT: Duration = Duration::from_secs(10);
/// How often a connection is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Silence after which it does not: two pings unanswered.
const SILENCE_MAX: Duration = Duration::from_secs(50);
/// How long a message may take to be sent to a subscriber who does not read.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Turns a bearer token into its caller; `None`: there is no such token.
pub(crate) type TokenCheck = dyn Fn(String) -> BoxFuture<'static, Option<Caller>> + Send + Sync;

/// Put into the extensions of a WebSocket's request by whoever let it in without a token although one is
/// needed: the connection then sends `{"Authorization": "Bearer …"}` as payload of its `connection_init`, and
/// does nothing before this check has answered.
#[derive(Clone)]
pub(crate) struct TokenInInit(pub(crate) Arc<TokenCheck>);

/// The connections of a process. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Sockets {
    turns: Arc<Semaphore>,
}

impl Sockets {
    pub(crate) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

/// Makes a request a WebSocket.
pub(super) fn upgrade(
    graphql: &Graphql,
    service: Service,
    headers: &HeaderMap,
    extensions: &Extensions,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    if !is_same_origin(headers) {
        let detail = "pages of other sites may not call the API";
        return Err(Problem::new(StatusCode::FORBIDDEN, "cross_site", "cross-site request", detail));
    }
    let upgrade = upgrade.protocols([PROTOCOL]).max_message_size(MESSAGE_MAX).max_frame_size(MESSAGE_MAX);
    if upgrade.selected_protocol().is_none() {
        let detail = format!("the WebSocket's subprotocol is {PROTOCOL}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "subprotocol", "no common subprotocol", detail));
    }
    let Ok(turn) = graphql.sockets.turns.clone().try_acquire_owned() else {
        let detail = format!("this process serves {CONNECTIONS_MAX} WebSockets at most");
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_connections",
            "too many connections",
            detail,
        ));
    };
    let connection = Connection {
        context: service.context().clone(),
        operations: Operations { schema: graphql.schema.clone(), turns: Arc::new(Semaphore::new(OPERATIONS_MAX)) },
        service,
        token: extensions.get::<TokenInInit>().cloned(),
        _turn: turn,
    };
    Ok(upgrade.on_upgrade(|socket| connection.serve(socket)))
}

/// Browsers name the site of the page that opens a WebSocket; other clients name none.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    authority.is_some() && authority == host
}

struct Connection {
    context: Context,
    operations: Operations,
    service: Service,
    token: Option<TokenInInit>,
    _turn: OwnedSemaphorePermit,
}

/// How a connection ends.
enum End {
    /// The peer is gone, or closed it himself.
    Gone,
    /// He is told why, by code and reason of the last frame.
    Closed(u16, &'static str),
}

impl Connection {
    async fn serve(self, socket: WebSocket) {
        let (mut sink, mut source) = socket.split();
        let Err(end) = self.converse(&mut sink, &mut source).await;
        if let End::Closed(code, reason) = end {
            let frame = CloseFrame { code, reason: reason.into() };
            // A peer who is gone by now hears no farewell.
            let _ = tokio::time::timeout(SEND_LIMIT, sink.send(Message::Close(Some(frame)))).await;
        }
    }

    /// Speaks with the peer until one of the two ends it.
    async fn converse(
        &self,
        sink: &mut SplitSink<WebSocket, Message>,
        source: &mut SplitStream<WebSocket>,
    ) -> Result<Infallible, End> {
        let clock = self.context.clock.clock().clone();
        let stopping = self.context.lifecycle.stopping().clone();
        let admitted = Arc::new(AtomicBool::new(false));
        let (inbox, messages) = mpsc::channel::<ClientMessage>(1);
        let messages = stream::unfold(messages, async |mut messages| Some((Ok(messages.recv().await?), messages)));
        let protocol = Protocol::from_message_stream(self.operations.clone(), messages, WebSocketProtocols::GraphQLWS)
            .on_connection_init(self.admission(admitted.clone()));
        tokio::pin!(protocol);
        let mut waiting: Option<ClientMessage> = None;
        let began = clock.monotonic();
        let (mut heard_at, mut ping_at) = (began, began + PING_EVERY);
        loop {
            let is_admitted = admitted.load(Ordering::SeqCst);
            let (deadline, too_late) = match is_admitted {
                true => (heard_at + SILENCE_MAX, End::Closed(1001, "silent")),
                false => (began + INIT_LIMIT, End::Closed(4408, "Connection initialisation timeout")),
            };
            tokio::select! {
                () = stopping.cancelled() => return Err(End::Closed(1001, "going away")),
                () = clock.sleep_until(deadline) => return Err(too_late),
                () = clock.sleep_until(ping_at) => {
                    ping_at = clock.monotonic() + PING_EVERY;
                    send(sink, Message::Ping(Bytes::new())).await?;
                }
                permit = inbox.reserve(), if waiting.is_some() => {
                    if let (Ok(permit), Some(message)) = (permit, waiting.take()) {
                        permit.send(message);
                    }
                }
                // One message at a time: a peer who sends faster than he is served waits.
                frame = source.next(), if waiting.is_none() => {
                    heard_at = clock.monotonic();
                    let Some(Ok(frame)) = frame else { return Err(End::Gone) };
                    match frame {
                        Message::Text(text) => waiting = Some(read(text.as_bytes(), is_admitted)?),
                        Message::Binary(bytes) => waiting = Some(read(&bytes, is_admitted)?),
                        Message::Close(_) => return Err(End::Gone),
                        Message::Ping(_) | Message::Pong(_) => {}
                    }
                }
                message = protocol.next() => match message {
                    Some(WsMessage::Text(text)) => send(sink, Message::Text(text.into())).await?,
                    Some(WsMessage::Close(..)) if !is_admitted => return Err(End::Closed(4403, "Forbidden")),
                    Some(WsMessage::Close(code, _)) => return Err(End::Closed(code, "protocol error")),
                    None => return Err(End::Gone),
                },
            }
        }
    }

    /// Who the connection acts for, once it has said so.
    fn admission(
        &self,
        admitted: Arc<AtomicBool>,
    ) -> impl FnOnce(Value) -> BoxFuture<'static, Result<Data, Error>> + Send + 'static {
        let (service, token) = (self.service.clone(), self.token.clone());
        move |payload| {
            Box::pin(async move {
                let service = match token {
                    None => service,
                    Some(TokenInInit(check)) => {
                        let bearer = bearer(&payload).ok_or_else(forbidden)?;
                        service.acting_for(check(bearer).await.ok_or_else(forbidden)?)
                    }
                };
                let mut data = Data::default();
                data.insert(service);
                admitted.store(true, Ordering::SeqCst);
                Ok(data)
            })
        }
    }
}

async fn send(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> Result<(), End> {
    match tokio::time::timeout(SEND_LIMIT, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(End::Gone),
    }
}

/// A message of the protocol; the codes are those of its specification.
fn read(bytes: &[u8], is_admitted: bool) -> Result<ClientMessage, End> {
    match serde_json::from_slice(bytes) {
        Ok(ClientMessage::Start { .. }) if !is_admitted => Err(End::Closed(4401, "Unauthorized")),
        Ok(message) => Ok(message),
        Err(_) => Err(End::Closed(4400, "not a message of graphql-transport-ws")),
    }
}

/// The token in the payload of a `connection_init`, whatever the case of its name.
fn bearer(payload: &Value) -> Option<String> {
    let mut members = payload.as_object()?.iter();
    let (_, value) = members.find(|(name, _)| name.eq_ignore_ascii_case("authorization"))?;
    let (scheme, token) = value.as_str()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn forbidden() -> Error {
    Error::new("Forbidden")
}

/// The operations of one connection.
#[derive(Clone)]
struct Operations {
    schema: GraphqlSchema,
    turns: Arc<Semaphore>,
}

impl Executor for Operations {
    async fn execute(&self, request: GraphqlRequest) -> Answer {
        self.schema.execute(request).await
    }

    fn execute_stream(&self, request: GraphqlRequest, data: Option<Arc<Data>>) -> BoxStream<'static, Answer> {
        match self.turns.clone().try_acquire_owned() {
            Ok(turn) => {
                let answers = Executor::execute_stream(&self.schema, request, data);
                // The turn ends with the stream.
                answers.inspect(move |_| _ = &turn).boxed()
            }
            Err(_) => {
                let sentence = format!("a connection has {OPERATIONS_MAX} operations at a time at most");
                let error = with_code(ServerError::new(sentence, None), LIMIT);
                stream::once(async { Answer::from_errors(vec![error]) }).boxed()
            }
        }
    }
}
