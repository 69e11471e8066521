//! What the doctor asks the database.

use std::sync::Arc;

use reveille_shared::runtime::clock::wall_ms;
use reveille_shared::store::{self, Store, StoreError, WakeReading};
use tokio::time::timeout;

use super::{Finding, PATIENCE, relative, spoken};
use crate::config::Settings;
use crate::roles::store_settings;
use crate::sealing::{self, Survey};

/// A worse clock makes logs of different machines hard to read. It delays nothing.
const CLOCK_TOLERANCE_MS: i64 = 1_000;
/// Within this workers and monitor should have noticed anything.
const LATE_TOLERANCE_MS: i64 = 35_000;

/// Answers what the monitor would read, if the database can be read.
pub(super) async fn examine(settings: &Settings, findings: &mut Vec<Finding>) -> Option<WakeReading> {
    let url = settings.database();
    let store = match asked(store::open(&url, store_settings(settings))).await {
        Ok(store) => store,
        Err(reason) => {
            findings.push(unreachable(&reason));
            return None;
        }
    };
    let reading = examine_open(settings, &store, findings).await;
    store.close().await;
    reading
}

async fn examine_open(settings: &Settings, store: &Arc<dyn Store>, findings: &mut Vec<Finding>) -> Option<WakeReading> {
    match asked(store.ping()).await {
        Ok(now) => {
            findings.push(Finding::good("database", "reachable"));
            findings.push(clock(now - wall_ms()));
        }
        Err(reason) => {
            findings.push(unreachable(&reason));
            return None;
        }
    }
    let reading = match asked(store.wake_read()).await {
        Ok(reading) => reading,
        Err(reason) => {
            let advice = "run `reveille migrate` with the same settings; is this the database you mean?";
            findings.push(Finding::bad("schema", format!("cannot be read: {reason}"), advice));
            return None;
        }
    };
    findings.push(Finding::good("schema", "readable by this version"));
    findings.push(due(&reading));
    findings.push(leases(&reading));
    findings.push(dry(store).await);
    findings.push(secrets(settings, store).await);
    Some(reading)
}

fn unreachable(reason: &str) -> Finding {
    let advice = "check --database-url, that the server runs, and that this machine may connect to it";
    Finding::bad("database", format!("cannot be reached: {reason}"), advice)
}

fn clock(offset_ms: i64) -> Finding {
    let direction = if offset_ms >= 0 { "ahead of" } else { "behind" };
    let text = format!("the database is {} {direction} this machine", spoken(offset_ms));
    if offset_ms.abs() <= CLOCK_TOLERANCE_MS {
        return Finding::good("clock", text);
    }
    let advice = "set up NTP on both; runs are on time by the database's clock, but times in logs will not match";
    Finding::bad("clock", text, advice)
}

fn due(reading: &WakeReading) -> Finding {
    let Some(next_due) = reading.next_due else { return Finding::good("due runs", "nothing is scheduled") };
    if reading.now - next_due < LATE_TOLERANCE_MS {
        return Finding::good("due runs", format!("the next run is due {}", relative(next_due, reading)));
    }
    let text = format!("{} are due and unclaimed, the oldest since {}", reading.overdue, relative(next_due, reading));
    let advice = "are workers running, do their --queues include the queue of these runs, are all their slots busy?";
    Finding::bad("due runs", text, advice)
}

fn leases(reading: &WakeReading) -> Finding {
    match reading.next_lease {
        None => Finding::good("leases", "no run is held by a worker"),
        Some(lease) if reading.now - lease < LATE_TOLERANCE_MS => {
            Finding::good("leases", format!("the first to end ends {}", relative(lease, reading)))
        }
        Some(lease) => {
            let text = format!("a worker's lease ended {} and nobody took the run over", relative(lease, reading));
            Finding::bad("leases", text, "are workers running, and do their --queues include the queue of that run?")
        }
    }
}

async fn dry(store: &Arc<dyn Store>) -> Finding {
    match asked(store.schedule_dry()).await {
        Ok(dry) if dry.is_empty() => Finding::good("schedules", "every active one has its next run"),
        Ok(dry) => {
            let ids: Vec<String> = dry.iter().take(5).map(ToString::to_string).collect();
            let text = format!("{} active ones have no next run, among them {}", dry.len(), ids.join(", "));
            Finding::bad("schedules", text, "register them again, which arms them, and report this as a bug")
        }
        Err(reason) => Finding::bad("schedules", format!("cannot be examined: {reason}"), "try again"),
    }
}

async fn secrets(settings: &Settings, store: &Arc<dyn Store>) -> Finding {
    const SUBJECT: &str = "secrets";
    let sealer = match sealing::sealer(settings, false) {
        Ok(sealer) => sealer,
        Err(error) => return Finding::bad(SUBJECT, format!("{error:#}"), "put the right key in its place"),
    };
    let survey = match asked(sealing::survey(&sealer, store)).await {
        Ok(survey) => survey,
        Err(reason) => return Finding::bad(SUBJECT, format!("cannot be examined: {reason}"), "try again"),
    };
    let keys: Vec<&str> = sealer.key_ids().collect();
    match (keys.as_slice(), survey) {
        (_, Survey { unopened: 1.., .. }) => Finding::bad(
            SUBJECT,
            format!("{} schedules have one that the keys of these settings do not open", survey.unopened),
            "set --secret-key to what the API and the workers have, or register these schedules again",
        ),
        ([], Survey { behind: 1.., .. }) => Finding::bad(
            SUBJECT,
            format!("{} schedules have one in the clear, and there is no key", survey.behind),
            "set --secret-key everywhere, then run `reveille reseal`",
        ),
        ([], _) => {
            Finding::good(SUBJECT, "none is stored; there is no --secret-key, documents with secrets are refused")
        }
        ([first, ..], Survey { behind: 1.., .. }) => Finding::bad(
            SUBJECT,
            format!("{} schedules have one that is not sealed under the first key, {first}", survey.behind),
            "run `reveille reseal`, then the other keys may go",
        ),
        ([first, ..], _) => Finding::good(SUBJECT, format!("all are sealed under key {first}")),
    }
}

/// The answer, or why there is none, with the causes.
async fn asked<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("{:#}", anyhow::Error::from(error))),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
