//! A real store behind a connection that a test can break: calls fail, answers get lost after the
//! commit, or are held up. Everything else passes through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reveille_shared::model::run::Settlement;
use reveille_shared::model::schedule::ClientKey;
use reveille_shared::model::timing::Arming;
use reveille_shared::model::{RunId, ScheduleId, UnixMs};
use reveille_shared::store::{
    ApiKey, AttemptRow, Claim, Claimed, Deleted, Forecast, HistoryFilter, HistoryPage, HistoryRow, Page, Registration,
    Renewal, RunRow, ScheduleFilter, ScheduleRow, Selection, Settled, Store, StoreError, StoredPayload, Symptoms,
    Triggered, Upserted, Usage, WakeReading, ZoneMove, ZonePage, Zoned,
};
use tokio::sync::watch;

/// What is wrong with the way to the store.
pub(crate) struct Unreliable {
    inner: Arc<dyn Store>,
    /// What a worker calls fails before it reaches the store.
    pub(crate) is_down: AtomicBool,
    /// Renewals fail before they reach the store.
    pub(crate) loses_renewals: AtomicBool,
    /// Settles fail before they reach the store.
    pub(crate) refuses_settles: AtomicBool,
    /// So many settles are committed and answered with an error.
    pub(crate) lost_settles: AtomicU64,
    /// Claims are executed, their answers wait for `false`.
    pub(crate) holds_claims: watch::Sender<bool>,
    /// Settles wait for `false` before they are executed.
    pub(crate) holds_settles: watch::Sender<bool>,
    pub(crate) claims: AtomicU64,
    pub(crate) settles: AtomicU64,
    pub(crate) renewals: AtomicU64,
}

impl Unreliable {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            is_down: AtomicBool::new(false),
            loses_renewals: AtomicBool::new(false),
            refuses_settles: AtomicBool::new(false),
            lost_settles: AtomicU64::new(0),
            holds_claims: watch::Sender::new(false),
            holds_settles: watch::Sender::new(false),
            claims: AtomicU64::new(0),
            settles: AtomicU64::new(0),
            renewals: AtomicU64::new(0),
        }
    }

    fn reach(&self) -> Result<(), StoreError> {
        if self.is_down.load(Ordering::SeqCst) { Err(unavailable()) } else { Ok(()) }
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
}

async fn released(held: &watch::Sender<bool>) {
    held.subscribe().wait_for(|held| !held).await.unwrap();
}

#[async_trait]
impl Store for Unreliable {
    async fn run_claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        self.reach()?;
        let claimed = self.inner.run_claim(claim).await;
        released(&self.holds_claims).await;
        claimed
    }

    async fn run_settle(&self, batch: &[Settlement]) -> Result<Settled, StoreError> {
        self.settles.fetch_add(1, Ordering::SeqCst);
        self.reach()?;
        if self.refuses_settles.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        released(&self.holds_settles).await;
        let settled = self.inner.run_settle(batch).await;
        let loses = |left: u64| left.checked_sub(1);
        match self.lost_settles.fetch_update(Ordering::SeqCst, Ordering::SeqCst, loses) {
            Ok(_) => Err(unavailable()),
            Err(_) => settled,
        }
    }

    async fn run_renew(&self, held: &[(RunId, i64)], lease: Duration) -> Result<Vec<Renewal>, StoreError> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        self.reach()?;
        if self.loses_renewals.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        self.inner.run_renew(held, lease).await
    }

    async fn schedule_upsert(&self, batch: &[Registration]) -> Result<Upserted, StoreError> {
        self.inner.schedule_upsert(batch).await
    }

    async fn schedule_update(&self, registration: &Registration) -> Result<Upserted, StoreError> {
        self.inner.schedule_update(registration).await
    }

    async fn schedule_get(&self, id: ScheduleId) -> Result<Option<ScheduleRow>, StoreError> {
        self.inner.schedule_get(id).await
    }

    async fn schedule_payload_by_client(&self, client: &ClientKey) -> Result<Option<String>, StoreError> {
        self.inner.schedule_payload_by_client(client).await
    }

    async fn schedule_payloads(&self, after: Option<ScheduleId>, limit: i64) -> Result<Vec<StoredPayload>, StoreError> {
        self.inner.schedule_payloads(after, limit).await
    }

    async fn schedule_reseal(&self, batch: &[StoredPayload]) -> Result<u64, StoreError> {
        self.inner.schedule_reseal(batch).await
    }

    async fn schedule_list(&self, filter: &ScheduleFilter, page: &Page) -> Result<Vec<ScheduleRow>, StoreError> {
        self.inner.schedule_list(filter, page).await
    }

    async fn schedule_delete(&self, selection: &Selection) -> Result<Deleted, StoreError> {
        self.inner.schedule_delete(selection).await
    }

    async fn schedule_pause(&self, id: ScheduleId) -> Result<(), StoreError> {
        self.inner.schedule_pause(id).await
    }

    async fn schedule_resume(
        &self,
        id: ScheduleId,
        revision: i64,
        arming: &Arming,
    ) -> Result<Option<UnixMs>, StoreError> {
        self.inner.schedule_resume(id, revision, arming).await
    }

    async fn schedule_trigger(&self, id: ScheduleId) -> Result<Triggered, StoreError> {
        self.inner.schedule_trigger(id).await
    }

    async fn run_get(&self, id: RunId) -> Result<Option<(RunRow, Vec<AttemptRow>)>, StoreError> {
        self.inner.run_get(id).await
    }

    async fn run_list(
        &self,
        schedule: ScheduleId,
        after: Option<(UnixMs, i64)>,
        limit: i64,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.inner.run_list(schedule, after, limit).await
    }

    async fn api_key_create(&self, key: &ApiKey) -> Result<(), StoreError> {
        self.inner.api_key_create(key).await
    }

    async fn api_key_get(&self, id: uuid::Uuid) -> Result<Option<ApiKey>, StoreError> {
        self.inner.api_key_get(id).await
    }

    async fn api_key_list(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.inner.api_key_list().await
    }

    async fn api_key_revoke(&self, id: uuid::Uuid) -> Result<bool, StoreError> {
        self.inner.api_key_revoke(id).await
    }

    async fn api_key_exists(&self) -> Result<bool, StoreError> {
        self.inner.api_key_exists().await
    }

    async fn application_usage(
        &self,
        application: &str,
        due: std::ops::Range<UnixMs>,
        limit: i64,
    ) -> Result<Usage, StoreError> {
        self.inner.application_usage(application, due, limit).await
    }

    async fn schema_check(&self) -> Result<(), StoreError> {
        self.inner.schema_check().await
    }

    async fn wake_forecast(&self) -> Result<(WakeReading, Forecast), StoreError> {
        self.inner.wake_forecast().await
    }

    async fn history_list(&self, filter: &HistoryFilter, page: &HistoryPage) -> Result<Vec<HistoryRow>, StoreError> {
        self.inner.history_list(filter, page).await
    }

    async fn wake_read(&self) -> Result<WakeReading, StoreError> {
        self.inner.wake_read().await
    }

    async fn prune(&self, limit: i64) -> Result<u64, StoreError> {
        self.inner.prune(limit).await
    }

    async fn epoch_next(&self) -> Result<i64, StoreError> {
        self.inner.epoch_next().await
    }

    async fn ping(&self) -> Result<UnixMs, StoreError> {
        self.inner.ping().await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }

    async fn schedule_dry(&self) -> Result<Vec<ScheduleId>, StoreError> {
        self.inner.schedule_dry().await
    }

    async fn zone_examine(&self, rules: i32, after: Option<ScheduleId>, limit: i64) -> Result<ZonePage, StoreError> {
        self.inner.zone_examine(rules, after, limit).await
    }

    async fn zone_unsure(&self, limit: i64) -> Result<Vec<Zoned>, StoreError> {
        self.inner.zone_unsure(limit).await
    }

    async fn zone_move(&self, change: &ZoneMove) -> Result<Option<UnixMs>, StoreError> {
        self.inner.zone_move(change).await
    }

    async fn zone_sure(&self, runs: &[RunId], rules: i32) -> Result<(), StoreError> {
        self.inner.zone_sure(runs, rules).await
    }

    async fn zone_begin(&self, rules: i32) -> Result<(), StoreError> {
        self.inner.zone_begin(rules).await
    }

    async fn zone_end(&self, rules: i32) -> Result<(), StoreError> {
        self.inner.zone_end(rules).await
    }

    async fn symptoms(&self) -> Result<Symptoms, StoreError> {
        self.inner.symptoms().await
    }

    fn is_pooled(&self) -> bool {
        self.inner.is_pooled()
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        self.inner.migrate().await
    }

    fn statements(&self) -> u64 {
        self.inner.statements()
    }

    fn failing_for(&self) -> Option<Duration> {
        self.inner.failing_for()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
