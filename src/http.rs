//! Listening and serving: bind early, serve until the lifecycle says otherwise.
//!
//! Invariant: no client holds a connection for ever without asking for something, and there are never more than
//! [`Limits::connections`] of them; the others wait to be accepted.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use reveille_shared::runtime::lifecycle::Lifecycle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long accepting pauses when the process has no more file descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// What the clients of a listener may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at the same time.
    connections: usize,
    /// Time from the connection to the first complete head of a request.
    first_head: Duration,
    /// Time from an answer to the next complete head. Longer than load balancers keep an idle connection (60 s), so that
    /// it is not we who close it under a request that is on its way.
    next_head: Duration,
}

const LIMITS: Limits =
    Limits { connections: 4096, first_head: Duration::from_secs(10), next_head: Duration::from_secs(75) };

/// A bound address that nobody serves yet.
pub(crate) struct Bound {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

/// Binds `address`, whose port may be 0.
///
/// # Errors
/// A sentence that names the flag.
pub(crate) async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<Bound> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {flag} {address}"))?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// Serves until the process stops; requests under way are answered, unless it aborts.
    pub(crate) fn serve(self, lifecycle: &Lifecycle, router: Router) {
        let (stopping, aborting) = (lifecycle.stopping().clone(), lifecycle.aborting().clone());
        lifecycle.spawn("http", async move {
            tokio::select! {
                () = aborting.cancelled() => {}
                () = serve(self.listener, router, LIMITS, stopping) => {}
            }
        });
    }

    /// Serves until everything else has ended, so that a process can be watched while it drains.
    pub(crate) fn serve_to_the_end(self, lifecycle: &Lifecycle, router: Router) {
        let closing = lifecycle.closing().clone();
        lifecycle.spawn_attendant("ops http", async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = serve(self.listener, router, LIMITS, CancellationToken::new()) => {}
            }
        });
    }
}

/// Serves until `stopping`, and then what is under way. Dropped, it drops the connections.
async fn serve(listener: TcpListener, router: Router, limits: Limits, stopping: CancellationToken) {
    let turns = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => {} // a handler's panic is answered before it comes here
            accepted = accept(&listener, &turns) => match accepted {
                Ok((stream, turn)) => {
                    connections.spawn(serve_connection(stream, router.clone(), limits, stopping.clone(), turn));
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn Error, "connections cannot be accepted, trying again");
                    let _ = timeout(PAUSE, stopping.cancelled()).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The next connection, as soon as there is a turn for it. Cancel safe.
async fn accept(listener: &TcpListener, turns: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let turn = turns.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, turn))
}

/// Gone before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    stopping: CancellationToken,
    _turn: OwnedSemaphorePermit,
) {
    // Answers are written whole; waiting to fill a packet would only delay their end.
    let _ = stream.set_nodelay(true);
    let has_asked = Arc::new(Notify::new());
    let asks = has_asked.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        asks.notify_one();
        answer(router.clone(), request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.next_head)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let first_head = timeout(limits.first_head, has_asked.notified());
    tokio::pin!(connection, first_head);
    let (mut is_new, mut is_stopping) = (true, false);
    loop {
        tokio::select! {
            biased;
            // How a connection ends is the client's business.
            _ = &mut connection => return,
            first = &mut first_head, if is_new => match first {
                Ok(()) => is_new = false,
                Err(_too_slow) => return,
            },
            () = stopping.cancelled(), if !is_stopping => {
                if is_new {
                    return;
                }
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> Result<Response, Infallible> {
    router.oneshot(request.map(Body::new)).await
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(100);

    /// A server that answers `ok`, its address, and what stops it.
    async fn start(limits: Limits) -> (SocketAddr, CancellationToken, Lifecycle) {
        let bound = bind("--listen", ([127, 0, 0, 1], 0).into()).await.unwrap();
        let (lifecycle, stopping) = (Lifecycle::new(), CancellationToken::new());
        let router = Router::new().route("/", get(async || "ok"));
        lifecycle.spawn("test", serve(bound.listener, router, limits, stopping.clone()));
        (bound.address, stopping, lifecycle)
    }

    async fn connect(address: SocketAddr, sent: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        stream
    }

    async fn assert_answered(stream: &mut TcpStream) {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\nok") {
            assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "closed after {read:?}");
        }
    }

    /// Ends when the server closes the connection.
    async fn closed(stream: &mut TcpStream) {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await; // a reset is an end, too
        let rest = String::from_utf8_lossy(&rest);
        assert!(!rest.contains("200 OK"), "answered: {rest}");
    }

    #[tokio::test]
    async fn a_client_that_does_not_ask_is_sent_away() {
        let (address, ..) = start(Limits { connections: 10, first_head: SHORT, next_head: LONG }).await;
        closed(&mut connect(address, b"").await).await;
        closed(&mut connect(address, b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await).await;
        let mut dribbling = connect(address, b"GET / HTTP/1.1\r\n").await;
        while dribbling.write_all(b"a: b\r\n").await.is_ok() {
            let _ = timeout(Duration::from_millis(5), std::future::pending::<()>()).await;
        }
    }

    #[tokio::test]
    async fn a_client_that_asked_may_take_its_time_for_the_next_request_but_not_for_ever() {
        let (address, ..) = start(Limits { connections: 10, first_head: SHORT, next_head: LONG }).await;
        let mut stream = connect(address, REQUEST).await;
        assert_answered(&mut stream).await;
        closed(&mut connect(address, b"").await).await; // longer than the first head may take
        stream.write_all(REQUEST).await.unwrap();
        assert_answered(&mut stream).await;

        let (address, ..) = start(Limits { connections: 10, first_head: LONG, next_head: SHORT }).await;
        let mut stream = connect(address, REQUEST).await;
        assert_answered(&mut stream).await;
        closed(&mut stream).await;
    }

    #[tokio::test]
    async fn those_above_the_limit_wait_for_their_turn() {
        let (address, ..) = start(Limits { connections: 2, first_head: SHORT, next_head: LONG }).await;
        let mut first = connect(address, REQUEST).await;
        assert_answered(&mut first).await;
        let mut silent = connect(address, b"").await;
        let mut waiting = connect(address, REQUEST).await;
        closed(&mut silent).await; // makes room
        assert_answered(&mut waiting).await;
        let mut another = connect(address, REQUEST).await;
        let early = timeout(SHORT, assert_answered(&mut another)).await;
        assert!(early.is_err(), "both turns are taken");
        drop(first);
        assert_answered(&mut another).await;
    }

    #[tokio::test]
    async fn a_stop_ends_idle_connections_and_lets_the_listener_go() {
        let (address, stopping, lifecycle) = start(Limits { connections: 10, first_head: LONG, next_head: LONG }).await;
        let mut idle = connect(address, REQUEST).await;
        assert_answered(&mut idle).await;
        let mut silent = connect(address, b"GET").await;
        let mut second = connect(address, REQUEST).await;
        assert_answered(&mut second).await; // so the silent one was accepted as well
        stopping.cancel();
        closed(&mut idle).await;
        closed(&mut silent).await;
        lifecycle.drained().await;
        assert!(TcpStream::connect(address).await.is_err());
    }
}
