//! `reveille doctor`: looks at configuration, database and Redis, and says in words what is wrong and what
//! to do, within three seconds. Changes nothing, except that opening a SQLite file that is not there creates it, and that
//! it tries Redis with names of its own.

mod bus;
mod store;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike};
use reveille_shared::model::zone::rules;
use reveille_shared::runtime::clock::{Clock, SystemClock, wall_ms};
use reveille_shared::runtime::tzdata;
use reveille_shared::store::WakeReading;
use serde::Serialize;

use crate::config::{Settings, connections, redacted};

/// For everything that is asked over a network, together: whoever calls this at night waits for it.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// Until when answers are waited for.
struct Deadline {
    clock: SystemClock,
    at: Duration,
}

impl Deadline {
    fn after(patience: Duration) -> Self {
        let clock = SystemClock::new();
        let at = clock.monotonic() + patience;
        Self { clock, at }
    }

    /// The answer, if it comes in time.
    async fn within<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            answer = answer => Some(answer),
            () = self.clock.sleep_until(self.at) => None,
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    subject: &'static str,
    ok: bool,
    finding: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn good(subject: &'static str, finding: impl Into<String>) -> Self {
        Self { subject, ok: true, finding: finding.into(), advice: None }
    }

    /// Nothing is wrong here, but somebody should know.
    fn notable(subject: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { subject, ok: true, finding: finding.into(), advice: Some(advice.into()) }
    }

    fn bad(subject: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { subject, ok: false, finding: finding.into(), advice: Some(advice.into()) }
    }
}

/// Examines everything and prints what it found; exit status 1 when something is wrong.
///
/// # Errors
/// When the findings cannot be printed.
pub(crate) async fn run(settings: &Settings, json: bool) -> anyhow::Result<ExitCode> {
    let mut findings = vec![configuration(settings), time_zones(settings)];
    findings.extend(settings.connections.iter().flat_map(|path| named_connections(path)));
    let deadline = Deadline::after(PATIENCE);
    let (read, heard) = tokio::join!(store::examine(settings, &deadline, &mut findings), bus::ask(settings, &deadline));
    findings.extend(bus::judge(settings, heard, read.as_ref()));
    let text = if json { serde_json::to_string_pretty(&findings)? + "\n" } else { report(&findings) };
    std::io::stdout().write_all(text.as_bytes())?;
    let healthy = findings.iter().all(|finding| finding.ok);
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// That it is sound was found out before this began.
fn configuration(settings: &Settings) -> Finding {
    let redis = settings.redis_url.as_deref().map_or_else(|| "none".to_owned(), redacted);
    let file = settings.config.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
    let database = redacted(&settings.database());
    Finding::good("configuration", format!("sound; database {database}, redis {redis}, file {file}"))
}

/// By which rules time zones are read here.
fn time_zones(settings: &Settings) -> Finding {
    const SUBJECT: &str = "time zones";
    let rules = match tzdata::open(&settings.tzdata) {
        Ok(rules) => rules,
        Err(error) => {
            return Finding::bad(SUBJECT, error.to_string(), "correct --tzdata: auto, system, bundled or a folder");
        }
    };
    let text = format!("read by the rules {} ({})", rules.version(), rules.origin());
    let year = rules.version().year();
    rules::set_current(Arc::new(rules));
    match is_old(year, wall_ms()) {
        false => Finding::good(SUBJECT, text),
        true => Finding::notable(
            SUBJECT,
            text + ", which are about a year old or older",
            "upgrade the package tzdata of this machine, or this service: zones whose rules changed since fire wrongly",
        ),
    }
}

/// A release names its year alone, and there is one early in every year: nine months later the last one of the year
/// before is about a year old.
fn is_old(year: i32, now_ms: i64) -> bool {
    const NINE_MONTHS_MS: i64 = 274 * 86_400_000;
    DateTime::from_timestamp_millis(now_ms - NINE_MONTHS_MS).is_some_and(|then| year < then.year())
}

/// The connections that tasks may name; those that no process of this build starts with, one by one.
fn named_connections(path: &Path) -> Vec<Finding> {
    const SUBJECT: &str = "connections";
    const ADVICE: &str = "no role starts until it is corrected, left out, or served by another build";
    let judged = match connections::judged(path) {
        Ok(judged) => judged,
        Err(error) => return vec![Finding::bad(SUBJECT, error, "correct --connections or the file")],
    };
    let (mut usable, mut findings) = (Vec::new(), Vec::new());
    for (name, connection) in judged {
        match connection {
            Ok(_) => usable.push(name),
            Err(reason) => findings.push(Finding::bad(SUBJECT, reason, ADVICE)),
        }
    }
    let names = if usable.is_empty() { "none".to_owned() } else { usable.join(", ") };
    findings.insert(0, Finding::good(SUBJECT, format!("usable in {}: {names}", path.display())));
    findings
}

fn report(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|finding| {
        let verdict = match (finding.ok, &finding.advice) {
            (true, None) => "ok ",
            (true, Some(_)) => "see",
            (false, _) => "BAD",
        };
        let advice = finding.advice.as_ref().map(|advice| format!("      → {advice}\n")).unwrap_or_default();
        format!("{verdict}  {}: {}\n{advice}", finding.subject, finding.finding)
    });
    lines.collect()
}

/// A span of time as people say it.
fn spoken(ms: i64) -> String {
    match ms.abs() {
        ms @ 0..1_000 => format!("{ms} ms"),
        ms @ 1_000..120_000 => format!("{} s", ms / 1_000),
        ms @ 120_000..7_200_000 => format!("{} min", ms / 60_000),
        ms @ 7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        ms => format!("{} days", ms / 86_400_000),
    }
}

/// An instant relative to the database's now.
fn relative(at: i64, reading: &WakeReading) -> String {
    let ms = at - reading.now;
    if ms >= 0 { format!("in {}", spoken(ms)) } else { format!("{} ago", spoken(ms)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_old_when_those_of_the_next_year_are_nine_months_old() {
        let at = |text: &str| text.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_millis();
        assert!(!is_old(2025, at("2026-09-30T00:00:00Z")));
        assert!(is_old(2025, at("2026-10-15T00:00:00Z")));
        assert!(!is_old(2026, at("2026-11-27T00:00:00Z")));
    }
}
