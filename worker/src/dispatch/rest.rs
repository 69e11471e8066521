//! Calls an HTTP endpoint: the document's method, headers and body, plus the headers that let the
//! target recognise a repetition and fence a late one.
//!
//! One client for all attempts, so connections are kept and reused. Follows no redirect and asks no
//! proxy: where a call goes is what was registered and vetted, nothing else. Responses are read only to
//! keep the connection usable, and nothing of them is kept but the status.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::DateTime;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode, Uri};
use reveille_shared::model::UnixMs;
use reveille_shared::model::run::{Outcome, OutcomeCode};
use reveille_shared::model::task::{Connection, Delivery, MessageFormat};
use reveille_shared::runtime::clock::Clock;
use url::Url;

use super::http::{HttpClient, Outgoing, TooSlow, add_default_headers, causes_of};
use super::target::{AddressRefused, Resolver, TargetPolicy, Unresolved, judge_literal};
use super::way::Way;
use super::{Dispatch, cloudevents, tls};
use crate::Settings;
use crate::call::{Answer, Call};

/// Bytes of a response that are read so that its connection can be used again; beyond them it is closed.
const RESPONSE_LIMIT: usize = 64 * 1024;

const USER_AGENT: &str = concat!("reveille/", env!("CARGO_PKG_VERSION"));

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const ATTEMPT: HeaderName = HeaderName::from_static("x-reveille-attempt");
const NOMINAL_TIME: HeaderName = HeaderName::from_static("x-reveille-nominal-time");
const FENCING_TOKEN: HeaderName = HeaderName::from_static("x-reveille-fencing-token");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const SCHEDULE_ID: HeaderName = HeaderName::from_static("x-reveille-schedule-id");

/// Headers that belong to the connection, not to the document: sending a registered value would break
/// the framing of the request.
const CONNECTION_HEADERS: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Calls HTTP endpoints.
pub(crate) struct Rest {
    client: HttpClient,
    way: Way,
    /// Those of named connections with authorities of their own, by the file of these.
    others: Mutex<BTreeMap<PathBuf, HttpClient>>,
    targets: Arc<TargetPolicy>,
    clock: Arc<dyn Clock>,
}

impl Rest {
    /// Prepares the client; connects nowhere.
    ///
    /// # Errors
    /// A sentence when this machine cannot make TLS connections.
    pub(crate) fn new(targets: TargetPolicy, settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err("no TLS provider is installed in this process".to_owned());
        }
        let targets = Arc::new(targets);
        let trust = tls::system_and(settings.ca_file.as_deref())?;
        let way = Way::new(Resolver::new(targets.clone()), settings.egress_proxy.as_ref())?;
        let client = HttpClient::new(way.clone(), &trust, clock.clone());
        Ok(Self { client, way, others: Mutex::default(), targets, clock })
    }

    /// The client whose trust is that of the destination. Its file is read when it is first needed.
    fn client(&self, ca_file: Option<&Path>) -> Result<HttpClient, Outcome> {
        let Some(path) = ca_file else { return Ok(self.client.clone()) };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = others.get(path) {
            return Ok(client.clone());
        }
        let trust = tls::file_alone(path).map_err(|error| Outcome::new(OutcomeCode::Connect, error))?;
        let client = HttpClient::new(self.way.clone(), &trust, self.clock.clone());
        others.insert(path.to_owned(), client.clone());
        Ok(client)
    }

    async fn call(&self, call: &Call<'_>) -> Result<Answer, Outcome> {
        let task = &call.definition.task;
        let mut url = target_url(&call.destination.endpoint.host)?;
        judge_literal(&self.targets, &url).map_err(address_refused)?;
        let method = method_of(&task.connection)?;
        let mut headers = document_headers(&call.destination.headers, |value| call.text(value))?;
        if task.connection.format == MessageFormat::CloudEvents {
            add_event_headers(&mut headers, call)?;
        }
        add_run_headers(&mut headers, call)?;
        let client = self.client(call.destination.endpoint.ca_file.as_deref())?;
        let has_body = method != Method::GET && method != Method::HEAD;
        let body = if has_body { call.body() } else { Cow::Borrowed("") };
        add_signature(&mut headers, call, body.as_bytes())?;
        if has_body {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        add_default_headers(&mut headers, USER_AGENT);
        add_credentials(&mut headers, &mut url)?;
        url.set_fragment(None);
        let uri = Uri::try_from(url.as_str()).map_err(|_| refused("the request cannot be built from the document"))?;
        let may_repeat = task.delivery == Delivery::AtLeastOnce;
        let outgoing = Outgoing { method, uri, headers, body: Bytes::from(body.into_owned()), may_repeat };
        let sent = client.send(&outgoing).await;
        let mut response = sent.map_err(|error| failure_of(&error, error.is_connect()))?;
        call.first_byte.mark();
        let answer = judge(&response, call.now);
        match read_to_limit(&mut response).await {
            Ok(()) => Ok(answer),
            Err(error) => Err(Outcome { http_status: answer.outcome.http_status, ..failure_of(&error, false) }),
        }
    }
}

#[async_trait]
impl Dispatch for Rest {
    async fn dispatch(&self, call: &Call<'_>) -> Answer {
        self.call(call).await.unwrap_or_else(Answer::from)
    }
}

fn refused(detail: &str) -> Outcome {
    Outcome::new(OutcomeCode::Refused, detail)
}

fn address_refused(refusal: AddressRefused) -> Outcome {
    refused(&refusal.to_string())
}

fn target_url(host: &str) -> Result<Url, Outcome> {
    let url = Url::parse(host).map_err(|_| refused("connection.host is not a URL"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(refused("connection.host is not an http or https URL")),
    }
}

fn method_of(connection: &Connection) -> Result<Method, Outcome> {
    let Some(name) = &connection.method else { return Ok(Method::POST) };
    let method = Method::from_bytes(name.to_ascii_uppercase().as_bytes());
    method.map_err(|_| refused("connection.method is not an HTTP method"))
}

fn document_headers<'a>(
    registered: &'a BTreeMap<String, String>,
    filled_in: impl Fn(&'a str) -> Cow<'a, str>,
) -> Result<HeaderMap, Outcome> {
    let mut headers = HeaderMap::with_capacity(registered.len() + 16);
    for (name, value) in registered {
        let name = HeaderName::try_from(name.as_str()).map_err(|_| refused("a header's name cannot be sent"))?;
        let mut value =
            HeaderValue::try_from(filled_in(value).as_ref()).map_err(|_| refused("a header's value cannot be sent"))?;
        // Which of them are secret the document does not say: none is printed by a library's log or kept for reuse.
        value.set_sensitive(true);
        if !CONNECTION_HEADERS.contains(&name) {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

/// User and password of the URL, unless the document has a header for that. They do not belong into the request's target.
fn add_credentials(headers: &mut HeaderMap, url: &mut Url) -> Result<(), Outcome> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(());
    }
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let pair = [&decoded(url.username())[..], b":", &decoded(url.password().unwrap_or_default())].concat();
    let mut value = text_value(&format!("Basic {}", BASE64_STANDARD.encode(pair)))?;
    value.set_sensitive(true);
    headers.entry(header::AUTHORIZATION).or_insert(value);
    // Neither fails for a URL with a host.
    let _ = (url.set_username(""), url.set_password(None));
    Ok(())
}

/// CloudEvents in binary mode: the attributes are headers, the body stays what it is.
fn add_event_headers(headers: &mut HeaderMap, call: &Call<'_>) -> Result<(), Outcome> {
    for (name, value) in cloudevents::attributes(call) {
        let name = HeaderName::try_from(format!("ce-{name}")).map_err(|_| refused("a header's name cannot be sent"))?;
        headers.insert(name, text_value(&cloudevents::header_value(&value))?);
    }
    Ok(())
}

/// After the document's headers, so that no document can pretend to be another run.
fn add_run_headers(headers: &mut HeaderMap, call: &Call<'_>) -> Result<(), Outcome> {
    let run = call.run;
    let run_id = text_value(&run.id.to_string())?;
    headers.insert(IDEMPOTENCY_KEY, run_id.clone());
    headers.insert(WEBHOOK_ID, run_id);
    headers.insert(SCHEDULE_ID, text_value(&run.schedule_id.to_string())?);
    headers.insert(ATTEMPT, HeaderValue::from(run.attempt));
    headers.insert(FENCING_TOKEN, HeaderValue::from(run.lease_token));
    headers.insert(NOMINAL_TIME, text_value(&call.scheduled_at())?);
    if let Some(traceparent) = call.traceparent {
        headers.insert(TRACEPARENT, text_value(&traceparent.to_string())?);
        headers.remove(TRACESTATE); // it would belong to another trace
    }
    Ok(())
}

/// Where the application has keys to sign with. The signature holds for this very request: a retry has its own.
fn add_signature(headers: &mut HeaderMap, call: &Call<'_>, body: &[u8]) -> Result<(), Outcome> {
    let timestamp = call.now.div_euclid(1000);
    if let Some(signature) = call.destination.signing.sign(&call.run.id.to_string(), timestamp, body) {
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
        headers.insert(WEBHOOK_SIGNATURE, text_value(&signature)?);
    }
    Ok(())
}

fn text_value(text: &str) -> Result<HeaderValue, Outcome> {
    HeaderValue::try_from(text).map_err(|_| refused("the run's headers cannot be sent"))
}

fn judge(response: &Response<Incoming>, now: UnixMs) -> Answer {
    let status = response.status();
    if status.is_success() {
        let outcome = Outcome { code: OutcomeCode::Ok, http_status: Some(status.as_u16()), detail: String::new() };
        return outcome.into();
    }
    let mut detail = format!("the target answered {status}");
    if status.is_redirection() {
        detail.push_str(", redirects are not followed");
    }
    let outcome = Outcome { code: OutcomeCode::HttpStatus, http_status: Some(status.as_u16()), detail };
    let asks_to_wait = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let retry_after_ms = asks_to_wait.then(|| retry_after_ms(response.headers(), now)).flatten();
    Answer { outcome, retry_after_ms }
}

/// `Retry-After` (RFC 9110, 10.2.3) in milliseconds from now: a number of seconds or a date. The date is
/// compared with the `Date` of the same response, so that the target's clock cancels out.
fn retry_after_ms(headers: &HeaderMap, now: UnixMs) -> Option<i64> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Whatever is longer than that is for ever.
        return Some(i64::from(text.parse::<u32>().unwrap_or(u32::MAX)) * 1000);
    }
    let until = http_date(text)?;
    let sent = headers.get(header::DATE).and_then(|date| http_date(date.to_str().ok()?)).unwrap_or(now);
    Some((until - sent).max(0))
}

fn http_date(text: &str) -> Option<UnixMs> {
    DateTime::parse_from_rfc2822(text).ok().map(|date| date.timestamp_millis())
}

async fn read_to_limit(response: &mut Response<Incoming>) -> Result<(), hyper::Error> {
    let mut read = 0;
    while read < RESPONSE_LIMIT {
        match response.body_mut().frame().await.transpose()? {
            Some(frame) => read += frame.data_ref().map_or(0, Bytes::len),
            None => break,
        }
    }
    Ok(())
}

/// What went wrong, told from the causes alone: an error's own text may carry the URL.
fn failure_of(error: &(dyn Error + 'static), is_connect: bool) -> Outcome {
    if let Some(refusal) = cause::<AddressRefused>(error) {
        return address_refused(*refusal);
    }
    match cause::<Unresolved>(error) {
        Some(Unresolved::Refused(refusal)) => return address_refused(*refusal),
        Some(Unresolved::Unknown(_)) => {
            return Outcome::new(OutcomeCode::Connect, "the target's name could not be resolved");
        }
        None => {}
    }
    let io_cause = causes_of(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(describe_io);
    if is_connect {
        let cause = if cause::<TooSlow>(error).is_some() { Some("timed out".to_owned()) } else { io_cause };
        let cause = cause.unwrap_or_else(|| "connecting failed".to_owned());
        return Outcome::new(OutcomeCode::Connect, format!("no connection to the target: {cause}"));
    }
    let cause = io_cause.unwrap_or_else(|| "the answer was not complete or not HTTP".to_owned());
    Outcome::new(OutcomeCode::Transport, format!("the exchange with the target broke: {cause}"))
}

fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes_of(error).find_map(|cause| cause.downcast_ref::<T>())
}

fn describe_io(error: &io::Error) -> String {
    // An error of TLS comes as one of I/O, and that in another.
    let mut inner = error;
    loop {
        let Some(cause) = inner.get_ref() else { return inner.kind().to_string() };
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return tls::describe(tls);
        }
        match cause.downcast_ref::<io::Error>() {
            Some(cause) => inner = cause,
            None => return inner.kind().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use reveille_shared::runtime::clock::SystemClock;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every connection with 200, closes it, and counts.
    async fn serve(listener: TcpListener, connections: Arc<AtomicUsize>) {
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        }
    }

    #[tokio::test]
    async fn a_name_that_rebinds_is_judged_each_time_and_connected_to_as_judged() {
        crate::install_tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let [answering, asked] = [connections.clone(), Arc::new(AtomicUsize::new(0))];
        // The first answer hides a metadata address among good ones; from the second on there is nothing else.
        let metadata: SocketAddr = "169.254.169.254:0".parse().unwrap();
        let answers = [vec![metadata, "127.0.0.1:0".parse().unwrap()], vec![metadata]];
        let count = asked.clone();
        let resolver = Resolver::asking(Arc::default(), move |_| {
            let turn = count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok(answers[turn.min(1)].clone()))
        });
        let way = Way::new(resolver, None).unwrap();
        let client = HttpClient::new(way, &tls::system_and(None).unwrap(), Arc::new(SystemClock::new()));
        let uri: Uri = format!("http://rebinding.example:{port}/").parse().unwrap();
        let outgoing =
            Outgoing { method: Method::POST, uri, headers: HeaderMap::new(), body: Bytes::new(), may_repeat: true };
        let calls = async {
            assert_eq!(client.send(&outgoing).await.unwrap().status(), StatusCode::OK);
            assert_eq!(asked.load(Ordering::SeqCst), 1, "one answer per connection");
            for turn in 2..4 {
                let error = client.send(&outgoing).await.unwrap_err();
                assert_eq!(failure_of(&error, error.is_connect()), address_refused(AddressRefused));
                assert_eq!(asked.load(Ordering::SeqCst), turn);
            }
        };
        tokio::select! {
            () = serve(listener, answering) => unreachable!(),
            () = calls => assert_eq!(connections.load(Ordering::SeqCst), 1),
        }
    }

    const NOW: UnixMs = 1_767_225_600_000; // 2026-01-01T00:00:00Z

    fn check_retry_after(headers: &[(HeaderName, &str)], expected: Option<i64>) {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        let headers: HeaderMap = headers.collect();
        assert_eq!(retry_after_ms(&headers, NOW), expected, "{headers:?}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_targets_own_clock() {
        let in_a_minute = "Thu, 01 Jan 2026 00:01:00 GMT";
        check_retry_after(&[], None);
        check_retry_after(&[(header::RETRY_AFTER, "120")], Some(120_000));
        check_retry_after(&[(header::RETRY_AFTER, " 0 ")], Some(0));
        check_retry_after(&[(header::RETRY_AFTER, in_a_minute)], Some(60_000));
        let target_is_ahead = "Thu, 01 Jan 2026 00:00:50 GMT";
        check_retry_after(&[(header::RETRY_AFTER, in_a_minute), (header::DATE, target_is_ahead)], Some(10_000));
        check_retry_after(&[(header::RETRY_AFTER, "Wed, 31 Dec 2025 00:00:00 GMT")], Some(0));
        let for_ever = Some(i64::from(u32::MAX) * 1000);
        check_retry_after(&[(header::RETRY_AFTER, "999999999999")], for_ever);
        check_retry_after(&[(header::RETRY_AFTER, "99999999999999999999")], for_ever);
        for unreadable in ["soon", "-1", "1.5", ""] {
            check_retry_after(&[(header::RETRY_AFTER, unreadable)], None);
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_quoting_it() {
        for host in ["localhost:3000/x", "ftp://host/secret", "//host", "", "http://"] {
            let refusal = target_url(host).unwrap_err();
            assert_eq!(refusal.code, OutcomeCode::Refused, "{host}");
            assert!(!refusal.detail.contains("secret"), "{}", refusal.detail);
        }
        let connection = Connection { method: Some("DO IT".to_owned()), ..Connection::default() };
        assert_eq!(method_of(&connection).unwrap_err().code, OutcomeCode::Refused);
        let headers = [("X-Key".to_owned(), "secret\n".to_owned())].into();
        let refusal = document_headers(&headers, Cow::from).unwrap_err();
        assert_eq!(refusal.code, OutcomeCode::Refused);
        assert!(!refusal.detail.contains("secret"));
    }

    #[test]
    fn headers_of_the_connection_are_not_the_documents_to_set() {
        let headers = [("Content-Length", "3"), ("transfer-encoding", "chunked"), ("X-Key", "1")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let sent = document_headers(&headers, Cow::from).unwrap();
        assert_eq!(sent.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-key"]);
    }
}
