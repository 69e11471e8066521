//! What one application may take from the others: requests per second, schedules, runs due in the same minute.
//!
//! The rate is counted in this process, the quotas by the store. Several requests at the same moment may exceed a
//! quota by as many: it protects against floods, it is no account. A quota costs each registration a statement or two
//! of its own; without any there is none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reveille_shared::Context;
use reveille_shared::model::UnixMs;
use reveille_shared::store::Registration;

use crate::error::Problem;

/// Applications counted at the same time; beyond that all begin anew.
const COUNTED: usize = 10_000;
const MINUTE_MS: i64 = 60_000;

/// Limits per application; 0 is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Requests per second; twice as many at once.
    pub requests_per_second: u32,
    /// Schedules that are active or paused.
    pub schedules: u32,
    /// Runs due in the same minute.
    pub due_per_minute: u32,
}

/// Counts requests. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Rates(Arc<Mutex<HashMap<String, Bucket>>>);

/// A token bucket: `tokens` at the instant `at`.
#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl Rates {
    /// Takes a request of this application.
    ///
    /// # Errors
    /// 429 when it made too many.
    pub(crate) fn take(&self, application: &str, limits: &Limits, now: Duration) -> Result<(), Problem> {
        if limits.requests_per_second == 0 {
            return Ok(());
        }
        let rate = f64::from(limits.requests_per_second);
        let full = 2.0 * rate;
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= COUNTED && !buckets.contains_key(application) {
            buckets.clear();
        }
        let bucket = buckets.entry(application.to_owned()).or_insert(Bucket { tokens: full, at: now });
        let refilled = bucket.tokens + now.saturating_sub(bucket.at).as_secs_f64() * rate;
        *bucket = Bucket { tokens: refilled.min(full), at: now };
        if bucket.tokens < 1.0 {
            let detail = format!("at most {} requests a second per application", limits.requests_per_second);
            return Err(Problem::too_many("rate_limited", detail));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

impl Limits {
    /// Looks whether a registration that is due at `due_at` fits into its application's quotas.
    ///
    /// # Errors
    /// 429 `quota_exceeded`; 503.
    pub(crate) async fn check(
        &self,
        context: &Context,
        registration: &Registration,
        due_at: UnixMs,
    ) -> Result<(), Problem> {
        if self.schedules == 0 && self.due_per_minute == 0 {
            return Ok(());
        }
        let minute = due_at.div_euclid(MINUTE_MS) * MINUTE_MS;
        let most = i64::from(self.schedules.max(self.due_per_minute));
        let application = &registration.client.application;
        let usage = context.store.application_usage(application, minute..minute + MINUTE_MS, most).await?;
        let exceeded = |name: &str, limit: u32| {
            let detail = format!("the application `{application}` has reached its quota of {limit} {name}");
            Err(Problem::too_many("quota_exceeded", detail))
        };
        if self.due_per_minute > 0 && usage.due >= i64::from(self.due_per_minute) {
            return exceeded("runs due in the same minute", self.due_per_minute);
        }
        if self.schedules > 0
            && usage.schedules >= i64::from(self.schedules)
            // One more of them, or one of them again?
            && context.store.schedule_payload_by_client(&registration.client).await?.is_none()
        {
            return exceeded("schedules", self.schedules);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_gets_its_rate_and_twice_as_much_at_once() {
        let (rates, limits) = (Rates::default(), Limits { requests_per_second: 2, ..Limits::default() });
        let taken = |application: &str, ms: u64, wanted: usize| {
            let now = Duration::from_millis(ms);
            (0..wanted).filter(|_| rates.take(application, &limits, now).is_ok()).count()
        };
        assert_eq!(taken("a", 0, 10), 4);
        assert_eq!(taken("b", 0, 10), 4, "others have their own");
        assert_eq!(taken("a", 499, 10), 0);
        assert_eq!(taken("a", 500, 10), 1);
        assert_eq!(taken("a", 60_000, 10), 4);
        assert_eq!(Rates::default().take("a", &Limits::default(), Duration::ZERO), Ok(()));
    }
}
