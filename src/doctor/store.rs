//! What the doctor asks the database.

use std::sync::Arc;

use reveille_shared::model::ScheduleId;
use reveille_shared::runtime::clock::wall_ms;
use reveille_shared::store::{self, Store, StoreError, Symptoms, WakeReading};

use super::{Deadline, Finding, relative, spoken};
use crate::config::Settings;
use crate::reseal::{Survey, survey};
use crate::roles::store_settings;
use crate::sealing;

/// A worse clock makes logs of different machines hard to read. It delays nothing.
const CLOCK_TOLERANCE_MS: i64 = 1_000;
/// Within this workers and monitor should have noticed anything.
const LATE_TOLERANCE_MS: i64 = 35_000;

const DEAD_ADVICE: &str = "GET /schedules?state=invalidity lists them; register again what should run after all";

/// What the database said.
pub(super) struct Read {
    /// What the monitor would read.
    pub(super) reading: WakeReading,
    /// What is amiss.
    pub(super) symptoms: Symptoms,
}

/// Asks the database, until `deadline`.
pub(super) async fn examine(settings: &Settings, deadline: &Deadline, findings: &mut Vec<Finding>) -> Option<Read> {
    let url = settings.database();
    let store = match asked(deadline, store::open(&url, store_settings(settings))).await {
        Ok(store) => store,
        Err(reason) => {
            findings.push(unreachable(&reason));
            return None;
        }
    };
    let read = examine_open(settings, &store, deadline, findings).await;
    store.close().await;
    read
}

async fn examine_open(
    settings: &Settings,
    store: &Arc<dyn Store>,
    deadline: &Deadline,
    findings: &mut Vec<Finding>,
) -> Option<Read> {
    match asked(deadline, store.ping()).await {
        Ok(now) => {
            let way = if store.is_pooled() { "reachable, through a pooler" } else { "reachable" };
            findings.push(Finding::good("database", way));
            findings.push(clock(now - wall_ms()));
        }
        Err(reason) => {
            findings.push(unreachable(&reason));
            return None;
        }
    }
    let read = async { Ok((store.wake_read().await?, store.symptoms().await?)) };
    let (reading, symptoms) = match asked(deadline, read).await {
        Ok(read) => read,
        Err(reason) => {
            let advice = "run `reveille migrate` with the same settings; is this the database you mean?";
            findings.push(Finding::bad("schema", format!("cannot be read: {reason}"), advice));
            return None;
        }
    };
    findings.push(Finding::good("schema", "readable by this version"));
    findings.push(due(&reading));
    findings.push(leases(&reading));
    findings.push(failing(&symptoms.failing));
    findings.push(dead(symptoms.dead));
    // Last, because they read everything.
    let (dry, secrets) = tokio::join!(dry(store, deadline), secrets(settings, store, deadline));
    findings.extend([dry, secrets]);
    Some(Read { reading, symptoms })
}

fn failing(ids: &[ScheduleId]) -> Finding {
    let Some(first) = ids.first() else {
        return Finding::good("failures", "no recurring schedule failed when it ran last");
    };
    let text = match ids.len() {
        1 => format!("1 recurring schedule failed when it ran last: {first}"),
        100.. => format!("100 recurring schedules and more failed when they ran last, among them {first}"),
        count => format!("{count} recurring schedules failed when they ran last, among them {first}"),
    };
    Finding::notable("failures", text, "GET /schedules/{id}/runs says how; nothing is wrong with the service itself")
}

fn dead(count: i64) -> Finding {
    match count {
        0 => Finding::good("dead letters", "none"),
        10_000.. => Finding::notable("dead letters", "10000 or more are kept", DEAD_ADVICE),
        count => Finding::notable("dead letters", format!("{count} are kept"), DEAD_ADVICE),
    }
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

async fn dry(store: &Arc<dyn Store>, deadline: &Deadline) -> Finding {
    const SUBJECT: &str = "schedules";
    match deadline.within(store.schedule_dry()).await {
        None => unfinished(SUBJECT),
        Some(Err(error)) => unexamined(SUBJECT, error),
        Some(Ok(dry)) if dry.is_empty() => Finding::good(SUBJECT, "every active one has its next run"),
        Some(Ok(dry)) => {
            let ids: Vec<String> = dry.iter().take(5).map(ToString::to_string).collect();
            let text = format!("{} active ones have no next run, among them {}", dry.len(), ids.join(", "));
            Finding::bad(SUBJECT, text, "register them again, which arms them, and report this as a bug")
        }
    }
}

/// What reads everything may take longer than anybody waits.
fn unfinished(subject: &'static str) -> Finding {
    Finding::notable(
        subject,
        "too many to look at each in time",
        "nothing hangs on it; the other findings are complete",
    )
}

fn unexamined(subject: &'static str, error: StoreError) -> Finding {
    Finding::bad(subject, format!("cannot be examined: {:#}", anyhow::Error::from(error)), "try again")
}

async fn secrets(settings: &Settings, store: &Arc<dyn Store>, deadline: &Deadline) -> Finding {
    const SUBJECT: &str = "secrets";
    let sealer = match sealing::sealer(settings, false) {
        Ok(sealer) => sealer,
        Err(error) => return Finding::bad(SUBJECT, format!("{error:#}"), "put the right key in its place"),
    };
    let survey = match deadline.within(survey(&sealer, store)).await {
        None => return unfinished(SUBJECT),
        Some(Err(error)) => return unexamined(SUBJECT, error),
        Some(Ok(survey)) => survey,
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

/// An answer, or the reason why there is none, for people.
async fn asked<T>(deadline: &Deadline, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match deadline.within(answer).await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => Err(format!("{:#}", anyhow::Error::from(error))),
        None => Err("no answer in time".to_owned()),
    }
}
