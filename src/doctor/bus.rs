//! What the doctor asks Redis, and hears there.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::bus::redis::RedisBus;
use reveille_shared::bus::wake::WakeState;
use reveille_shared::bus::{Bus, BusEvent};
use reveille_shared::runtime::clock::SystemClock;
use reveille_shared::runtime::lifecycle::Lifecycle;
use reveille_shared::store::WakeReading;
use tokio::time::timeout;

use super::{Finding, PATIENCE, relative};
use crate::config::Settings;
use crate::roles::redis_bus;

/// Hints and looks under way while the doctor asks may differ by this much.
const NEXT_TOLERANCE_MS: i64 = 2_000;

pub(super) async fn examine(settings: &Settings, reading: Option<&WakeReading>, findings: &mut Vec<Finding>) {
    let Some(url) = &settings.redis_url else {
        findings.push(Finding::good("redis", "not used: everything runs in one process"));
        return;
    };
    let lifecycle = Lifecycle::new();
    match redis_bus(url, settings, Arc::new(SystemClock::new()), &lifecycle) {
        Ok(bus) => examine_open(&bus, settings, reading, findings).await,
        Err(error) => {
            let reason = format!("{error:#}");
            findings.push(Finding::bad("redis", reason, "check --redis-url: redis://[user:password@]host:port"));
        }
    }
    lifecycle.abort();
    lifecycle.drained().await;
}

async fn examine_open(bus: &RedisBus, settings: &Settings, reading: Option<&WakeReading>, findings: &mut Vec<Finding>) {
    let state = match timeout(PATIENCE, bus.read()).await {
        Ok(Ok(state)) => state,
        Ok(Err(error)) => {
            findings.push(unreachable(&format!("{:#}", anyhow::Error::from(error))));
            return;
        }
        Err(_) => {
            findings.push(unreachable("no answer"));
            return;
        }
    };
    findings.push(Finding::good("redis", "reachable"));
    findings.push(monitor(bus, settings).await);
    findings.push(wake(state.as_ref(), reading));
}

fn unreachable(reason: &str) -> Finding {
    let advice = "check --redis-url and that the server runs; meanwhile workers look into the database every 30 s \
                  and runs that are known are on time";
    Finding::bad("redis", format!("cannot be reached: {reason}"), advice)
}

/// Who leads shows itself every beat.
async fn monitor(bus: &RedisBus, settings: &Settings) -> Finding {
    let mut events = bus.subscribe();
    let heartbeat = async {
        loop {
            match events.recv().await {
                Some(BusEvent::Heartbeat(state)) => return Some(state),
                Some(_) => {}
                None => return None,
            }
        }
    };
    // Long enough for another monitor to take over from one that died just now.
    let patience = settings.monitor_ttl + settings.beat + Duration::from_secs(1);
    match timeout(patience, heartbeat).await {
        Ok(Some(state)) => Finding::good("monitor", format!("one leads, term {}", state.epoch)),
        _ => {
            let text = format!("none was heard within {} s", patience.as_secs());
            let advice = "start `reveille monitor` with the same --redis-url and --namespace";
            Finding::bad("monitor", text, advice)
        }
    }
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
