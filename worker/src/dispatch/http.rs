//! The HTTP client: connections that are kept between calls, and what is done when one of them ends under a call.
//!
//! A server may close a kept connection at the moment at which the next request is on its way. Whoever waits for the
//! answer cannot tell whether it was read, but the request carries an `Idempotency-Key`: where a connection that served
//! before ends without a byte of an answer, it is sent once more, on a new connection, within the same attempt and
//! deadline. The same where HTTP/2 says that a request was not processed (RFC 9113, 8.7).
//!
//! Kept connections are given up after 4 s without use, before most servers do (Node.js after 5 s), and after a minute
//! in any case, so that a name that moved is followed.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Method, Request, Response, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection, capture_connection};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use reveille_shared::runtime::clock::Clock;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use super::way::Way;
use crate::call::CONNECT_LIMIT;

/// A connection that nobody used for this long is closed.
const IDLE: Duration = Duration::from_secs(4);

/// A connection that was made this long ago is not used again.
const AGE: Duration = Duration::from_secs(60);

/// A server that keeps connections for less than this, as it says, gets a new one each time.
const KEPT_AT_LEAST_S: u64 = 5;

/// Headers of an answer that are read; ten times what most servers allow.
const HEADERS: usize = 1000;

type BoxError = Box<dyn Error + Send + Sync>;

/// Calls servers over HTTP/1.1 and, where TLS agrees on it, HTTP/2. Cloning shares the connections.
#[derive(Clone)]
pub(crate) struct HttpClient {
    pooled: Client<Connector, Full<Bytes>>,
    /// Makes a connection for each request.
    fresh: Client<Connector, Full<Bytes>>,
    clock: Arc<dyn Clock>,
}

/// A request that can be sent twice.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether it may be sent once more when nobody knows whether it was read.
    pub(crate) may_repeat: bool,
}

impl Outgoing {
    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

impl HttpClient {
    /// A client that connects by `way`, and trusts whom `tls` does.
    pub(crate) fn new(way: Way, tls: &ClientConfig, clock: Arc<dyn Clock>) -> Self {
        let https = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http().enable_all_versions();
        let connector = Connector { https: https.wrap_connector(way), clock: clock.clone() };
        let client = |kept: usize| {
            Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(kept)
                .http1_max_headers(HEADERS)
                .build(connector.clone())
        };
        Self { pooled: client(usize::MAX), fresh: client(0), clock }
    }

    /// Sends a request; answers when the head of the response is there.
    pub(crate) async fn send(&self, outgoing: &Outgoing) -> Result<Response<Incoming>, ClientError> {
        let mut request = outgoing.request();
        let captured = capture_connection(&mut request);
        match self.pooled.request(request).await {
            Ok(response) => {
                self.answered(&captured, response.headers());
                Ok(response)
            }
            Err(error) if was_not_processed(&error) || outgoing.may_repeat && ended_unused(&error, &captured) => {
                self.fresh.request(outgoing.request()).await
            }
            Err(error) => Err(error),
        }
    }

    fn answered(&self, captured: &CaptureConnection, headers: &HeaderMap) {
        let connection = captured.connection_metadata();
        let Some(connection) = connection.as_ref() else { return };
        let Some(service) = service_of(connection) else { return };
        service.has_answered.store(true, Ordering::Relaxed);
        let is_old = self.clock.monotonic().saturating_sub(service.made_at) > AGE;
        if is_old || kept_for_s(headers).is_some_and(|seconds| seconds < KEPT_AT_LEAST_S) {
            connection.poison();
        }
    }
}

/// For how many seconds the server says that it keeps the connection (`Keep-Alive: timeout=5`, RFC 2068, 19.7.1).
fn kept_for_s(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get("keep-alive")?.to_str().ok()?;
    text.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.parse().ok())
}

/// Whether HTTP/2 said that nobody looked at the request: a stream that was refused, or came after the last that a server
/// going away takes.
fn was_not_processed(error: &ClientError) -> bool {
    causes_of(error).filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(|error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
    })
}

/// Whether a connection that had served before ended without a byte of the answer.
fn ended_unused(error: &ClientError, captured: &CaptureConnection) -> bool {
    let connection = captured.connection_metadata();
    let Some(service) = connection.as_ref().filter(|connection| !connection.is_negotiated_h2()).and_then(service_of)
    else {
        return false;
    };
    service.has_answered.load(Ordering::Relaxed) && !service.is_answering.load(Ordering::Relaxed) && is_an_end(error)
}

fn is_an_end(error: &ClientError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    causes_of(error).any(|cause| {
        let ended = cause.downcast_ref::<hyper::Error>();
        let broken = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        ended.is_some_and(|error| error.is_incomplete_message() || error.is_closed() || error.is_canceled())
            || matches!(broken, Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
    })
}

/// What led to an error, and the error itself.
pub(crate) fn causes_of<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// What a connection has served.
#[derive(Clone)]
struct Served {
    made_at: Duration,
    has_answered: Arc<AtomicBool>,
    /// Whether something was read since something was written.
    is_answering: Arc<AtomicBool>,
}

fn service_of(connection: &Connected) -> Option<Served> {
    let mut extras = hyper::http::Extensions::new();
    connection.get_extras(&mut extras);
    extras.get::<Served>().cloned()
}

/// No connection within [`CONNECT_LIMIT`].
#[derive(Debug, thiserror::Error)]
#[error("timed out")]
pub(crate) struct TooSlow;

#[derive(Clone)]
struct Connector {
    https: HttpsConnector<Way>,
    clock: Arc<dyn Clock>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, clock) = (self.https.call(uri), self.clock.clone());
        Box::pin(async move {
            let inner = timeout(CONNECT_LIMIT, connecting).await.map_err(|_| TooSlow)??;
            let served =
                Served { made_at: clock.monotonic(), has_answered: Arc::default(), is_answering: Arc::default() };
            Ok(TokioIo::new(Stream { inner: TokioIo::new(inner), served }))
        })
    }
}

/// A connection that knows what it has served.
struct Stream {
    inner: TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>,
    served: Served,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.inner.connected().extra(self.served.clone())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.served.is_answering.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.served.is_answering.store(false, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.served.is_answering.store(false, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write_vectored(context, buffers)
    }
}

/// Sets what every request says of its sender, where the document says nothing.
pub(crate) fn add_default_headers(headers: &mut HeaderMap, user_agent: &'static str) {
    headers.entry(header::ACCEPT).or_insert(header::HeaderValue::from_static("*/*"));
    headers.entry(header::USER_AGENT).or_insert(header::HeaderValue::from_static(user_agent));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_server_keeps_a_connection_is_read() {
        let said = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("keep-alive", header::HeaderValue::from_static(text));
            kept_for_s(&headers)
        };
        assert_eq!(said("timeout=5, max=1000"), Some(5));
        assert_eq!(said("max=3, timeout=2"), Some(2));
        assert_eq!((said("max=3"), said("timeout=soon"), kept_for_s(&HeaderMap::new())), (None, None, None));
    }
}
