//! What the doctor asks Redis, and hears there.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::bus::presence::{TroubleKind, WorkerPresence};
use reveille_shared::bus::redis::RedisBus;
use reveille_shared::bus::wake::WakeState;
use reveille_shared::bus::{Bus, BusError};
use reveille_shared::model::zone::rules;
use reveille_shared::runtime::clock::{Clock, SystemClock};
use reveille_shared::runtime::lifecycle::Lifecycle;
use reveille_shared::store::WakeReading;

use super::store::Read;
use super::{Deadline, Finding, relative};
use crate::config::Settings;
use crate::data;
use crate::roles::redis_bus;

/// Hints and looks under way while the doctor asks may differ by this much.
const NEXT_TOLERANCE_MS: i64 = 2_000;

/// How often it is asked who leads, while nobody does.
const AGAIN: Duration = Duration::from_millis(200);

/// What Redis said.
pub(super) enum Heard {
    /// There is none: everything runs in one process.
    NotUsed,
    /// It cannot be asked.
    Unusable(Finding),
    Answers(Box<Answers>),
}

pub(super) struct Answers {
    state: Option<WakeState>,
    leader: Option<String>,
    workers: Result<Vec<WorkerPresence>, BusError>,
    /// What does not work there; `None` when it was not tried to the end.
    refused: Option<Vec<(&'static str, BusError)>>,
}

/// Asks Redis, until `deadline`.
pub(super) async fn ask(settings: &Settings, deadline: &Deadline) -> Heard {
    let Some(url) = &settings.redis_url else { return Heard::NotUsed };
    let lifecycle = Lifecycle::new();
    let clock = Arc::new(SystemClock::new());
    let heard = match redis_bus(url, settings, clock.clone(), &lifecycle) {
        Ok(bus) => ask_open(&bus, clock.as_ref(), deadline).await,
        Err(error) => {
            let advice = "check --redis-url: redis://[user:password@]host:port";
            Heard::Unusable(Finding::bad("redis", format!("{error:#}"), advice))
        }
    };
    lifecycle.abort();
    lifecycle.drained().await;
    heard
}

async fn ask_open(bus: &RedisBus, clock: &dyn Clock, deadline: &Deadline) -> Heard {
    let state = match deadline.within(bus.read()).await {
        Some(Ok(state)) => state,
        Some(Err(BusError::Unreadable(_))) => None,
        Some(Err(error)) => return Heard::Unusable(unreachable(&format!("{:#}", anyhow::Error::from(error)))),
        None => return Heard::Unusable(unreachable("no answer")),
    };
    let workers = bus.workers_read().await;
    let refused = deadline.within(bus.rehearse()).await;
    // Another monitor may be about to take over from one that died just now.
    let leading = async {
        loop {
            match bus.leader().await {
                Ok(None) => clock.sleep(AGAIN).await,
                led => return led.ok().flatten(),
            }
        }
    };
    let leader = deadline.within(leading).await.flatten();
    Heard::Answers(Box::new(Answers { state, leader, workers, refused }))
}

fn unreachable(reason: &str) -> Finding {
    let advice = "check --redis-url and that the server runs; meanwhile workers look into the database every 30 s \
                  and runs that are known are on time";
    Finding::bad("redis", format!("cannot be reached: {reason}"), advice)
}

/// What follows from it, with what the database said.
pub(super) fn judge(settings: &Settings, heard: Heard, read: Option<&Read>) -> Vec<Finding> {
    match heard {
        Heard::Unusable(finding) => vec![finding],
        Heard::NotUsed => {
            let mut findings = vec![Finding::good("redis", "not used: everything runs in one process")];
            findings.extend(embedded(settings));
            findings
        }
        Heard::Answers(answers) => {
            let Answers { state, leader, workers, refused } = *answers;
            let mut findings = vec![redis(refused)];
            findings.push(monitor(leader.as_deref(), state.as_ref()));
            findings.push(wake(state.as_ref(), read.map(|read| &read.reading)));
            match workers {
                Ok(present) => findings.extend(workers_present(&present, read)),
                Err(error) => {
                    let text = format!("cannot be listed: {:#}", anyhow::Error::from(error));
                    findings.push(Finding::bad("workers", text, "does the user of --redis-url have all rights?"));
                }
            }
            findings
        }
    }
}

fn redis(refused: Option<Vec<(&'static str, BusError)>>) -> Finding {
    match refused.as_deref() {
        None => Finding::notable("redis", "reachable, but not all was tried in time", "ask again when it is less busy"),
        Some([]) => Finding::good("redis", "reachable, and does all that is needed"),
        Some(refused) => {
            let said = refused.iter().map(|(what, error)| format!("{what}: {}", innermost(error)));
            let advice =
                "give the user of --redis-url these commands, or the server itself in place of what stands between";
            Finding::bad("redis", format!("refuses {}", said.collect::<Vec<_>>().join("; ")), advice)
        }
    }
}

fn innermost(error: &BusError) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn monitor(leader: Option<&str>, state: Option<&WakeState>) -> Finding {
    match leader {
        Some(_) => {
            let term = state.map_or_else(String::new, |state| format!(", term {}", state.epoch));
            Finding::good("monitor", format!("one leads{term}"))
        }
        None => {
            Finding::bad("monitor", "none leads", "start `reveille monitor` with the same --redis-url and --namespace")
        }
    }
}

/// Where everything runs in one process, whoever holds the file is it.
fn embedded(settings: &Settings) -> Option<Finding> {
    match data::holder(&settings.database())? {
        Some(process) => Some(Finding::good("service", format!("process {process} runs it"))),
        None => Some(Finding::bad("service", "nobody runs it: nothing fires", "start `reveille serve`")),
    }
}

fn workers_present(present: &[WorkerPresence], read: Option<&Read>) -> Vec<Finding> {
    if present.is_empty() {
        let advice =
            "start `reveille worker` with the same --redis-url and --namespace; one of an older version runs unseen";
        return vec![Finding::bad("workers", "none is there: nothing fires", advice)];
    }
    let slots: usize = present.iter().map(|worker| worker.slots).sum();
    let busy: usize = present.iter().map(|worker| worker.in_flight).sum();
    let names = some(present.iter().map(|worker| worker.name.clone()));
    let mut findings =
        vec![Finding::good("workers", format!("{} with {slots} slots, {busy} busy: {names}", present.len()))];
    findings.extend(read.map(|read| queues(present, &read.symptoms.queues)));
    findings.push(targets(present));
    findings.push(zone_rules(present));
    findings
}

fn queues(present: &[WorkerPresence], pending: &[String]) -> Finding {
    let is_served = |queue: &String| present.iter().any(|worker| !worker.draining && worker.queues.contains(queue));
    let unserved: Vec<String> = pending.iter().filter(|queue| !is_served(queue)).cloned().collect();
    if unserved.is_empty() {
        return Finding::good("queues", "each with pending runs has a worker");
    }
    let text = format!("no worker serves {}, where runs are pending", some(unserved.into_iter()));
    Finding::bad("queues", text, "add them to --queues of some workers")
}

fn targets(present: &[WorkerPresence]) -> Finding {
    let of_kind = |kind: TroubleKind| {
        let mut targets: Vec<String> = present
            .iter()
            .flat_map(|worker| worker.targets.iter().filter(|trouble| trouble.kind == kind))
            .map(|trouble| trouble.target.clone())
            .collect();
        targets.sort();
        targets.dedup();
        targets
    };
    let (away, congested) = (of_kind(TroubleKind::Away), of_kind(TroubleKind::Congested));
    let mut said = Vec::new();
    if !away.is_empty() {
        said.push(format!("away: {}", some(away.into_iter())));
    }
    if !congested.is_empty() {
        said.push(format!("too slow for what is sent there: {}", some(congested.into_iter())));
    }
    match said.is_empty() {
        true => Finding::good("targets", "no worker has trouble with one"),
        false => {
            Finding::notable("targets", said.join("; "), "their runs wait and are not lost; look at these servers")
        }
    }
}

/// By which rules the workers read time zones.
fn zone_rules(present: &[WorkerPresence]) -> Finding {
    const SUBJECT: &str = "time zones of workers";
    let mine = rules::current().version().to_string();
    let mut versions: Vec<&str> = present.iter().map(|worker| worker.zone_rules.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    let shown = versions.join(", ");
    if versions.iter().all(|version| *version == mine) {
        return Finding::good(SUBJECT, format!("all read them by the rules {shown}"));
    }
    let text = format!("workers read them by the rules {shown}, here they are {mine}");
    let advice =
        "the newest rules win, half a minute late where an older worker arms; upgrade tzdata, or the service, there";
    Finding::notable(SUBJECT, text, advice)
}

/// The first few, and how many more.
fn some(names: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.take(SHOWN).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

fn wake(state: Option<&WakeState>, reading: Option<&WakeReading>) -> Finding {
    let Some(state) = state else {
        let advice = "start a monitor; the first registration or its first look creates it";
        return Finding::bad("wake state", "there is none", advice);
    };
    let Some(reading) = reading else {
        return Finding::good("wake state", "there is one; without the database it cannot be judged");
    };
    let shown = state.next().map_or_else(|| "nothing to come".to_owned(), |next| relative(next, reading));
    let too_late = match (state.next(), reading.next_due) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(next), Some(due)) => next > due + NEXT_TOLERANCE_MS,
    };
    if too_late {
        let text = format!("it says {shown}, later than the database's next run");
        let advice = "the monitor's next recheck mends this; if it stays, no monitor leads";
        return Finding::bad("wake state", text, advice);
    }
    Finding::good("wake state", format!("next: {shown}, nonce {}, seq {}", state.nonce, state.seq))
}
