//! The sink of lateness: records when the head of each request had arrived, on a thread and a runtime of its own, so
//! that a busy benchmark does not move the moment.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::clock::wall_us;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// The path and its query.
    pub(crate) path: String,
    /// The instant the run stands for, as the product says it.
    pub(crate) nominal: String,
    /// When its head was here: unix microseconds.
    pub(crate) at_us: i64,
}

/// The server; ends with this value.
pub(crate) struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    arrivals: Mutex<Vec<Arrival>>,
    count: watch::Sender<usize>,
}

impl Sink {
    pub(crate) async fn start() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = oneshot::channel();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve(theirs, bound, stopped));
        let address = address.await.context("the sink listens")?;
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn count(&self) -> usize {
        *self.shared.count.borrow()
    }

    /// Takes away what arrived so far.
    pub(crate) fn take(&self) -> Vec<Arrival> {
        let taken = std::mem::take(&mut *self.shared.lock());
        self.shared.count.send_replace(0);
        taken
    }

    /// Returns when `count` requests are here.
    pub(crate) async fn wait(&self, count: usize, patience: Duration) -> Result<()> {
        let mut seen = self.shared.count.subscribe();
        let began = Instant::now();
        let enough = tokio::time::timeout(patience, seen.wait_for(|seen| *seen >= count)).await.is_ok();
        ensure!(enough, "{} of {count} calls arrived within {:?}", self.count(), began.elapsed());
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(shared: Arc<Shared>, bound: oneshot::Sender<SocketAddr>, stopped: oneshot::Receiver<Infallible>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return; // whoever waits for the address says so
    };
    runtime.block_on(async {
        let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await else {
            return;
        };
        if let Ok(address) = listener.local_addr() {
            bound.send(address).ok();
        }
        tokio::select! {
            () = accept(listener, shared) => {}
            _ = stopped => {}
        }
    });
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue; // gone before it was accepted
        };
        stream.set_nodelay(true).ok();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| record(&shared, request));
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

async fn record(shared: &Shared, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    let at_us = wall_us();
    let header = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let arrival = Arrival { path, nominal: header("x-reveille-nominal-time"), at_us };
    let count = {
        let mut arrivals = shared.lock();
        arrivals.push(arrival);
        arrivals.len()
    };
    shared.count.send_replace(count);
    request.into_body().collect().await?;
    Ok(Response::new(Empty::new()))
}
