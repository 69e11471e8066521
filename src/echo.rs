//! `reveille echo`: a target to try schedules on. Prints every request it gets and answers it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Local};
use reveille_shared::runtime::clock::wall_ms;
use reveille_shared::runtime::lifecycle::Lifecycle;

use crate::config::Settings;
use crate::http;
use crate::signals::Signals;

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);
const BODY_LIMIT: usize = 1024 * 1024;
const BODY_SHOWN: usize = 2_000;
/// Of no interest to whoever tries out a schedule.
const DULL_HEADERS: [&str; 5] = ["host", "accept", "user-agent", "content-length", "connection"];
const SECRET_HEADERS: [&str; 4] = ["authorization", "cookie", "x-api-key", "proxy-authorization"];

/// Receives until a signal comes.
///
/// # Errors
/// When the address is in use.
pub(crate) async fn run(settings: &Settings, status: u16) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let lifecycle = Lifecycle::new();
    let bound = http::bind("--listen", settings.listen.unwrap_or(LISTEN)).await?;
    let target = format!("http://{}/", bound.address);
    say(&format!("listening: point a schedule's task.connection.host at {target}\n\n"));
    let status = StatusCode::from_u16(status)?;
    bound.serve(&lifecycle, Router::new().fallback(receive).with_state(status));
    signals.next().await;
    lifecycle.abort();
    lifecycle.drained().await;
    Ok(ExitCode::SUCCESS)
}

async fn receive(State(status): State<StatusCode>, request: Request) -> StatusCode {
    let (head, body) = request.into_parts();
    match to_bytes(body, BODY_LIMIT).await {
        Ok(body) => say(&block(&head, &body)),
        Err(error) => say(&format!("{} {}: the body could not be read: {error}\n\n", head.method, head.uri)),
    }
    status
}

/// One request as people read it.
fn block(head: &Parts, body: &Bytes) -> String {
    let time = DateTime::from_timestamp_millis(wall_ms()).unwrap_or_default().with_timezone(&Local);
    let mut text = format!("{} {} {}\n", time.format("%H:%M:%S%.3f"), head.method, head.uri);
    text.push_str(&headers(&head.headers));
    let shown = String::from_utf8_lossy(&body[..body.len().min(BODY_SHOWN)]);
    if !shown.is_empty() {
        text.push_str(&format!("  {shown}"));
    }
    if body.len() > BODY_SHOWN {
        text.push_str(&format!("… ({} bytes in all)", body.len()));
    }
    text.push_str("\n\n");
    text
}

fn headers(headers: &HeaderMap) -> String {
    let interesting = headers.iter().filter(|(name, _)| !DULL_HEADERS.contains(&name.as_str()));
    let lines = interesting.map(|(name, value)| {
        let is_secret = SECRET_HEADERS.contains(&name.as_str());
        let value = if is_secret { "***".into() } else { String::from_utf8_lossy(value.as_bytes()) };
        format!("  {name}: {value}\n")
    });
    lines.collect()
}

/// Whole blocks, flushed: this is often piped.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A closed pipe is no reason to stop answering.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
