//! One term of a leading monitor: from the election it won to the stop, the loss or the giving up.
//!
//! Owns the order of things: a heartbeat is sent by the same loop that reads and publishes, and only
//! after its last read and publish worked, so a monitor that hangs or is cut off from the database loses
//! the leadership by doing nothing. Never decides when to look: that is [`crate::watch`].

use std::error::Error;
use std::time::Duration;

use reveille_shared::Context;
use reveille_shared::bus::wake::NEVER;
use reveille_shared::bus::{Beat, BusError, BusEvent, Subscription, ToldBacklog};
use reveille_shared::model::zone::rules::{self, Version};
use reveille_shared::runtime::telemetry::Pulse;
use reveille_shared::store::{Backlog, StoreError, WakeReading};
use tokio::time::timeout;

use crate::Settings;
use crate::metrics::{MonitorMetrics, Published};
use crate::outlook::Outlook;
use crate::sweep::{BATCH, Sweep};
use crate::watch::{Moment, Push, Reason, Watch, to_tell};
use crate::zones::Zones;

/// Heartbeats that may be missed because the database fails, before the leader gives up.
const FAILURES: u32 = 2;

/// For how many rechecks a forecast is worth telling when no newer one comes.
const FORECASTS: u32 = 3;

/// How a term ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TermEnd {
    /// The process stops.
    Stopped,
    /// Another process may lead now.
    Lost,
    /// The database cannot be used from here.
    GaveUp,
}

/// Why a look at the database failed.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("the next wake could not be published")]
    Bus(#[from] BusError),
    #[error("the next wake could not be read")]
    Store(#[from] StoreError),
    #[error("the database did not answer in time")]
    Silent,
}

pub(crate) struct Term<'a> {
    context: &'a Context,
    settings: &'a Settings,
    metrics: &'a MonitorMetrics,
    pulse: &'a Pulse,
    id: &'a str,
    epoch: i64,
    watch: Watch,
    sweep: Sweep,
    zones: Zones,
    /// By which rules of time zones it looked last.
    rules: Version,
    marks: u64,
    beat_at: Duration,
    renewed_at: Duration,
    /// Whether the last look and the last heartbeat worked.
    sound: bool,
    store_failures: u32,
    /// When it counts again how much is waiting and coming.
    forecast_at: Duration,
    outlook: Outlook,
    /// Whether somebody asks for it.
    asked: bool,
}

impl<'a> Term<'a> {
    pub(crate) fn new(
        context: &'a Context,
        settings: &'a Settings,
        metrics: &'a MonitorMetrics,
        pulse: &'a Pulse,
        id: &'a str,
        epoch: i64,
    ) -> Self {
        let now = context.clock.clock().monotonic();
        Self {
            context,
            settings,
            metrics,
            pulse,
            id,
            epoch,
            watch: Watch::new(settings.recheck, now),
            sweep: Sweep::new(),
            zones: Zones::default(),
            rules: rules::armed_by(),
            marks: 0,
            beat_at: now,
            renewed_at: now,
            sound: true,
            store_failures: 0,
            forecast_at: now,
            outlook: Outlook::default(),
            asked: false,
        }
    }

    /// Leads until the term ends.
    pub(crate) async fn lead(&mut self, events: &mut Subscription) -> TermEnd {
        loop {
            self.pulse.beat(self.now().at);
            if let Some(end) = self.step().await {
                return end;
            }
            tokio::select! {
                biased;
                () = self.context.lifecycle.stopping().cancelled() => return TermEnd::Stopped,
                event = events.recv() => match event {
                    Some(event) => self.hear(&event),
                    None => return TermEnd::Stopped,
                },
                () = self.context.clock.clock().sleep_until(self.deadline()) => {}
            }
        }
    }

    /// Does what is due now.
    async fn step(&mut self) -> Option<TermEnd> {
        if self.sound
            && let Some(reason) = self.watch.due(self.now().at)
        {
            self.look(reason).await;
        }
        if self.sound && std::mem::take(&mut self.asked) {
            self.answer().await;
        }
        if self.now().at >= self.beat_at
            && let Some(end) = self.beat().await
        {
            return Some(end);
        }
        if self.sweep.is_due(self.now().at) {
            self.prune().await;
        }
        if rules::armed_by() != self.rules {
            // At the next look it is known what they move.
            self.rules = rules::armed_by();
            self.forecast_at = self.now().at;
            self.watch.want(self.now().at, Reason::Asked);
        }
        if self.sound && self.zones.is_due(self.now().at) {
            self.examine_zones().await;
        }
        None
    }

    fn deadline(&self) -> Duration {
        let look_at = if self.sound { self.watch.deadline() } else { self.beat_at };
        let work_at = look_at.min(self.beat_at);
        [self.sweep.deadline(), self.zones.deadline()].into_iter().flatten().fold(work_at, Duration::min)
    }

    fn hear(&mut self, event: &BusEvent) {
        let now = self.now();
        match event {
            BusEvent::Connected(_) => {
                // The leadership and the key may be gone with the old connection: the heartbeat tells.
                self.beat_at = now.at;
                self.watch.want(now.at, Reason::Reconnect);
            }
            BusEvent::Wake(state) | BusEvent::Nudge(state) | BusEvent::Heartbeat(state) => {
                self.watch.on_state(now, state)
            }
            // Told while the look after the instant that passed is planned, and found by it.
            BusEvent::Soon(_) => {}
            BusEvent::BacklogWanted => self.asked = true,
            BusEvent::Resigned | BusEvent::Disconnected | BusEvent::StagesWanted => {}
        }
    }

    /// Renews the leadership, unless the last read or publish failed: then that comes first.
    async fn beat(&mut self) -> Option<TermEnd> {
        self.beat_at = self.now().at + self.settings.beat;
        if !self.sound && !self.look(Reason::Retry).await {
            if self.store_failures > FAILURES {
                return Some(TermEnd::GaveUp);
            }
            return self.lost_by_silence();
        }
        let seen = self.watch.seen();
        let beat = Beat {
            id: self.id.to_owned(),
            epoch: self.epoch,
            ttl: self.settings.ttl,
            db_ms: self.now().db_ms,
            seen_nonce: seen.nonce,
            seen_seq: seen.seq,
        };
        let sent_at = self.now().at;
        match self.context.bus.beat(&beat).await {
            Ok(Some(state)) => {
                self.renewed_at = sent_at;
                self.watch.on_beat(self.now(), &state);
                None
            }
            Ok(None) => Some(TermEnd::Lost),
            Err(error) => {
                self.fail(&error.into());
                self.lost_by_silence()
            }
        }
    }

    /// Without a heartbeat for longer than the key lives, somebody else may lead.
    fn lost_by_silence(&self) -> Option<TermEnd> {
        (self.now().at >= self.renewed_at + self.settings.ttl).then_some(TermEnd::Lost)
    }

    /// Looks into the database and publishes what it found. Answers whether that worked.
    async fn look(&mut self, reason: Reason) -> bool {
        self.metrics.looked(reason);
        match self.recompute().await {
            Ok(push) => {
                if !self.sound {
                    tracing::info!(monitor.epoch = self.epoch, "database and bus can be used again");
                }
                self.sound = true;
                self.store_failures = 0;
                match self.push(push).await {
                    Ok(()) => true,
                    Err(error) => self.fail(&error.into()),
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Mark, read, set: a hint that comes between mark and set is kept by the bus, a monitor that reads
    /// at the same time makes the set refuse.
    async fn recompute(&mut self) -> Result<Option<Push>, LookError> {
        self.marks += 1;
        let token = format!("{}.{}", self.id, self.marks);
        let marked = self.context.bus.mark(&token, self.epoch).await?;
        self.context.faults.pass("monitor.marked").await;
        let reading = self.read().await?;
        self.context.faults.pass("monitor.read").await;
        let Some(set) = self.context.bus.set(&token, marked.nonce, to_tell(&reading)).await? else {
            let now = self.now().at;
            self.watch.on_refused(now);
            return Ok(None);
        };
        if set.seq != marked.seq {
            self.metrics.published(Published::Next);
        }
        self.metrics.next_wake(set.next_ms);
        let now = self.now();
        Ok(self.watch.on_reading(now, &reading, &set))
    }

    async fn read(&mut self) -> Result<WakeReading, LookError> {
        let reading = if self.now().at < self.forecast_at {
            // The mark before it has forgotten what was hinted since the last count.
            self.outlook.on_move();
            self.ask(self.context.store.wake_read()).await?
        } else {
            let counted_at = self.now().at;
            let (reading, forecast) = self.ask(self.context.store.wake_forecast()).await?;
            self.forecast_at = self.now().at + self.settings.recheck / 2;
            self.sweep.on_reading(self.now(), forecast.next_prune);
            self.zones.on_standing(forecast.zones, self.rules.number());
            self.outlook.on_count(counted_at, forecast.backlog);
            // What was committed while it was counted may be missing, and the SET forgets that it was hinted.
            if self.is_hinted().await {
                self.outlook.on_move();
            }
            self.tell(forecast.backlog, counted_at).await;
            reading
        };
        self.context.clock.observe(reading.now);
        let oldest = reading.next_due.filter(|due| *due <= reading.now);
        self.metrics.overdue(reading.overdue, oldest);
        Ok(reading)
    }

    /// Answers whoever asks how much is waiting: by the last count, or by another look where that may be out of date.
    async fn answer(&mut self) {
        let hinted = self.is_hinted().await;
        match self.outlook.standing(self.now().at, hinted) {
            Some((backlog, held_at)) => self.tell(backlog, held_at).await,
            None => {
                self.forecast_at = self.now().at;
                self.look(Reason::Asked).await;
            }
        }
    }

    /// Whether something was hinted since the last mark. Also when nobody can say.
    async fn is_hinted(&self) -> bool {
        let state = self.context.bus.read().await;
        !matches!(state, Ok(Some(state)) if state.since_ms >= NEVER)
    }

    /// Only for whoever scales the workers: nobody is woken by it, so a failure is no reason to look again.
    async fn tell(&self, backlog: Backlog, held_at: Duration) {
        let age_ms = u64::try_from(self.now().at.saturating_sub(held_at).as_millis()).unwrap_or(u64::MAX);
        let told = ToldBacklog { backlog, number: fastrand::u64(1..), age_ms };
        if let Err(error) = self.context.bus.backlog_tell(&told, FORECASTS * self.settings.recheck).await {
            tracing::debug!(error = &error as &dyn Error, "the backlog could not be told");
        }
    }

    /// Awaits the database for as long as the next heartbeat can still come in time.
    async fn ask<T>(&self, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, LookError> {
        let patience = self.settings.ttl.saturating_sub(self.settings.beat);
        Ok(timeout(patience, answer).await.map_err(|_| LookError::Silent)??)
    }

    async fn push(&mut self, push: Option<Push>) -> Result<(), BusError> {
        let Some(push) = push else { return Ok(()) };
        self.metrics.published(match push {
            Push::Overdue => Published::Nudge,
            Push::Lease => Published::Lease,
        });
        let told = self.context.bus.nudge().await?;
        if let Some(state) = told {
            self.metrics.next_wake(state.next_ms);
            self.watch.on_state(self.now(), &state);
        }
        Ok(())
    }

    /// Notes a failure, logs the first of a row, and leaves the next try to the heartbeat.
    fn fail(&mut self, error: &LookError) -> bool {
        if !matches!(error, LookError::Bus(_)) {
            self.store_failures += 1;
        }
        if self.sound {
            let error: &(dyn Error + 'static) = error;
            tracing::warn!(error, monitor.epoch = self.epoch, "cannot keep the wake state up, trying at every beat");
        }
        self.sound = false;
        false
    }

    async fn examine_zones(&mut self) {
        let began = self.now().at;
        let examined = self.zones.work(self.context, self.rules.number()).await;
        let now = self.now().at;
        self.zones.rest(now, now.saturating_sub(began), examined.as_ref().ok().map(|part| part.pause));
        match examined {
            Ok(part) => {
                if let Some(at) = part.armed_min {
                    self.context.hints.hint(at, self.context.clock.now_ms());
                    self.watch.want(now, Reason::Asked);
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "what older rules of time zones armed could not be examined"
                );
            }
        }
    }

    async fn prune(&mut self) {
        let began = self.now().at;
        match self.ask(self.context.store.prune(BATCH)).await {
            Ok(rows) => {
                self.metrics.pruned(rows);
                let now = self.now().at;
                self.sweep.on_batch(now, now.saturating_sub(began), rows);
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "finished rows could not be pruned, trying again later");
                self.sweep.on_end(self.now().at);
            }
        }
    }

    fn now(&self) -> Moment {
        Moment { at: self.context.clock.clock().monotonic(), db_ms: self.context.clock.now_ms() }
    }
}
