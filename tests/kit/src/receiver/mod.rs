//! A real HTTP server that records every delivery and answers as the test scripts it.
//!
//! Runs on a thread and a runtime of its own, so that neither a busy test nor a blocked one changes when a
//! delivery arrives. Hyper without a framework: it has to take more requests per second than the product
//! sends, in a debug build.

pub(crate) mod answer;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use self::answer::{Answer, AnswerBody};

/// One request that reached the receiver whole.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its place among all deliveries of this receiver, from 0.
    pub order: usize,
    /// Its method.
    pub method: Method,
    /// Its path, without the query.
    pub path: String,
    /// Its query, empty when there is none.
    pub query: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// When its head had arrived: unix milliseconds by the wall clock.
    pub arrived_ms: i64,
    /// The same on the monotonic clock.
    pub arrived: Instant,
}

impl Delivery {
    /// The value of a header, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {:?}", self.body))
    }
}

/// The server; it ends with this value.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// How many deliveries there are.
    count: watch::Sender<usize>,
    /// How often each path was released.
    released: watch::Sender<HashMap<String, u64>>,
}

#[derive(Default)]
struct State {
    deliveries: Vec<Delivery>,
    scripts: HashMap<String, VecDeque<Answer>>,
    in_flight: HashMap<String, InFlight>,
}

#[derive(Clone, Copy, Default)]
struct InFlight {
    now: usize,
    peak: usize,
}

impl Receiver {
    /// Listens on a free loopback port. Unscripted paths answer 200.
    pub async fn start() -> Self {
        Self::start_on(0).await
    }

    /// Listens on this loopback port.
    pub async fn start_on(port: u16) -> Self {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = oneshot::channel();
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve(port, for_thread, bound, stopped));
        let address = address.await.expect("the receiver listens");
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// The URL of `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers deliveries to `path` in this order; the last answer stands for all that follow.
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        let answers: VecDeque<Answer> = answers.into_iter().collect();
        assert!(!answers.is_empty(), "a script needs an answer");
        self.shared.state().scripts.insert(path.to_owned(), answers);
    }

    /// Lets the held answers of `path` go: those that wait at this moment, not later ones.
    pub fn release(&self, path: &str) {
        self.shared.released.send_modify(|released| *released.entry(path.to_owned()).or_default() += 1);
    }

    /// Everything that arrived so far, in order.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.state().deliveries.clone()
    }

    /// What arrived at `path` so far, in order.
    pub fn deliveries_to(&self, path: &str) -> Vec<Delivery> {
        let state = self.shared.state();
        state.deliveries.iter().filter(|delivery| delivery.path == path).cloned().collect()
    }

    /// How many deliveries arrived so far.
    pub fn count(&self) -> usize {
        *self.shared.count.borrow()
    }

    /// Deliveries to `path` that arrived and are not answered yet.
    pub fn in_flight(&self, path: &str) -> usize {
        self.shared.state().in_flight.get(path).copied().unwrap_or_default().now
    }

    /// The most deliveries to `path` that were ever unanswered at one moment.
    pub fn peak_in_flight(&self, path: &str) -> usize {
        self.shared.state().in_flight.get(path).copied().unwrap_or_default().peak
    }

    /// Forgets the deliveries so far.
    pub fn clear(&self) {
        self.shared.state().deliveries.clear();
        self.shared.count.send_replace(0);
    }

    /// Everything that arrived, once that is at least `n`. Panics with what there is at the deadline.
    pub async fn wait_for(&self, n: usize, deadline: Duration) -> Vec<Delivery> {
        let mut count = self.shared.count.subscribe();
        let enough = tokio::time::timeout(deadline, count.wait_for(|count| *count >= n)).await;
        let is_enough = enough.is_ok();
        drop(enough);
        let deliveries = self.deliveries();
        if !is_enough && deliveries.len() < n {
            let seen: Vec<String> = deliveries.iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
            panic!("waited {deadline:?} for {n} deliveries, {} arrived: {seen:?}", seen.len());
        }
        deliveries
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a delivery and takes the answer it gets.
    fn record(&self, mut delivery: Delivery) -> Answer {
        let mut state = self.state();
        let answer = match state.scripts.get_mut(&delivery.path) {
            None => Answer::ok(),
            Some(script) if script.len() > 1 => script.pop_front().expect("longer than one"),
            Some(script) => script.front().expect("never empty").clone(),
        };
        delivery.order = state.deliveries.len();
        state.deliveries.push(delivery);
        let count = state.deliveries.len();
        // Under the lock, so that the count never falls behind what a waiter can read.
        self.count.send_replace(count);
        answer
    }

    async fn wait_released(&self, path: &str, seen: u64) {
        let mut released = self.released.subscribe();
        released.wait_for(|released| released.get(path).copied().unwrap_or_default() > seen).await.ok();
    }

    fn releases_of(&self, path: &str) -> u64 {
        self.released.borrow().get(path).copied().unwrap_or_default()
    }
}

fn serve(port: u16, shared: Arc<Shared>, bound: oneshot::Sender<SocketAddr>, stopped: oneshot::Receiver<Infallible>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a loopback port");
        bound.send(listener.local_addr().expect("a bound address")).ok();
        tokio::select! {
            () = accept(listener, shared) => {}
            _ = stopped => {}
        }
    });
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue; // the client was gone before it was accepted
        };
        stream.set_nodelay(true).ok();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| respond(&shared, request));
            // An error is a client that hung up, or an answer scripted to close the connection.
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

async fn respond(shared: &Shared, request: Request<Incoming>) -> Result<Response<AnswerBody>, std::io::Error> {
    let arrived = Instant::now();
    let arrived_ms = unix_ms();
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let path = head.uri.path().to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let _in_flight = InFlightGuard::enter(shared, &path);
    let releases = shared.releases_of(&path);
    let delivery = Delivery {
        order: 0,
        method: head.method,
        path: path.clone(),
        query,
        headers: head.headers,
        body,
        arrived_ms,
        arrived,
    };
    let answer = shared.record(delivery);
    if answer.is_closed {
        return Err(std::io::Error::other("scripted to close the connection"));
    }
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    if answer.is_held {
        shared.wait_released(&path, releases).await;
    }
    Ok(answer.into_response())
}

/// Counts a delivery as unanswered until it is dropped, which a client's hanging up does too.
struct InFlightGuard<'a> {
    shared: &'a Shared,
    path: &'a str,
}

impl<'a> InFlightGuard<'a> {
    fn enter(shared: &'a Shared, path: &'a str) -> Self {
        let mut state = shared.state();
        let in_flight = state.in_flight.entry(path.to_owned()).or_default();
        in_flight.now += 1;
        in_flight.peak = in_flight.peak.max(in_flight.now);
        Self { shared, path }
    }
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        if let Some(in_flight) = self.shared.state().in_flight.get_mut(self.path) {
            in_flight.now -= 1;
        }
    }
}

fn unix_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since_epoch.as_millis()).expect("a year below 292 million")
}
