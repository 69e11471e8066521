//! The gate: turns credentials into a caller. Keys are remembered for a while, so that a registration costs no
//! statement for its key, and a flood of wrong ones none each.
//!
//! A key that is taken back opens for [`KNOWN_FOR`] at most on processes that know it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use reveille_shared::Context;
use reveille_shared::store::{ApiKey, StoreError};
use uuid::Uuid;

use super::{Caller, key};
use crate::error::Problem;

/// How long a key that was found is remembered, and that there are keys at all.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// How long it is remembered that there is no key with an id.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// Keys remembered at most; beyond that all are forgotten. Ids are the callers' to invent.
const REMEMBERED: usize = 10_000;

/// Who is let in.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The operator's token.
    pub token: Option<String>,
    /// Whether callers without credentials are refused although there is neither a token nor a key: others than this
    /// machine's users can reach the API.
    pub closed: bool,
}

/// Decides who comes in. Cloning shares it.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    context: Context,
    token: Option<[u8; 32]>,
    closed: bool,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    keys: HashMap<Uuid, Remembered>,
    /// Whether there are keys, and until when that is believed.
    any: Option<(bool, Duration)>,
    /// Until when the log need not say again that callers come without a key.
    told_until: Duration,
}

struct Remembered {
    key: Option<ApiKey>,
    until: Duration,
}

impl Gate {
    /// A gate to what `context` has.
    pub fn new(context: Context, access: &Access) -> Self {
        let token = access.token.as_deref().map(key::digest);
        Self(Arc::new(Inner { context, token, closed: access.closed, memory: Mutex::default() }))
    }

    /// The caller of a request, by its headers.
    ///
    /// # Errors
    /// 401; 503 while the database that knows the keys is away.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(sent) = headers.get(AUTHORIZATION) else { return self.anonymous().await };
        let sent = sent.to_str().ok().and_then(|value| value.split_once(' '));
        match sent {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => self.holder(token.trim()).await,
            _ => Err(Problem::unauthorized("send a key as `Authorization: Bearer …`")),
        }
    }

    /// The holder of a token or key.
    ///
    /// # Errors
    /// As [`Gate::caller`].
    pub async fn holder(&self, token: &str) -> Result<Caller, Problem> {
        if self.0.token == Some(key::digest(token)) {
            return Ok(Caller::operator());
        }
        let refused = || Problem::unauthorized("this key is not valid, or not any more");
        let (id, secret) = key::parts(token).ok_or_else(refused)?;
        let known = self
            .key(id)
            .await?
            .filter(|known| known.digest == key::digest(secret) && known.is_valid(self.0.context.clock.now_ms()));
        let known = known.ok_or_else(|| {
            tracing::debug!(key.id = %id, "a key was refused");
            refused()
        })?;
        Ok(Caller { scope: known.scope, application: known.application, key: Some(id) })
    }

    /// Whoever sends no credentials: the operator on his own machine, as long as he made no key.
    async fn anonymous(&self) -> Result<Caller, Problem> {
        if self.0.closed || self.0.token.is_some() || self.any_key().await? {
            self.tell_refusal();
            return Err(Problem::unauthorized("send a key as `Authorization: Bearer …`"));
        }
        Ok(Caller::operator())
    }

    /// Whoever came in before the first key was made finds out here why he does not any more: said in the log, once in a
    /// while, because he may ask every second.
    fn tell_refusal(&self) {
        let now = self.now();
        let mut memory = self.memory();
        if now >= memory.told_until {
            memory.told_until = now + KNOWN_FOR;
            tracing::info!("a caller without a key was refused (401): there is a token or a key by now");
        }
    }

    async fn key(&self, id: Uuid) -> Result<Option<ApiKey>, StoreError> {
        let now = self.now();
        if let Some(remembered) = self.memory().keys.get(&id).filter(|remembered| now < remembered.until) {
            return Ok(remembered.key.clone());
        }
        let store = &self.0.context.store;
        let found = store.api_key_get(id).await?;
        // Whether it has expired is told by the database's clock, which a process that only serves the API never heard.
        if found.as_ref().is_some_and(|found| found.expires_at.is_some()) {
            self.0.context.clock.observe(store.ping().await?);
        }
        let until = now + if found.is_some() { KNOWN_FOR } else { UNKNOWN_FOR };
        let mut memory = self.memory();
        if memory.keys.len() >= REMEMBERED {
            memory.keys.clear();
        }
        memory.keys.insert(id, Remembered { key: found.clone(), until });
        Ok(found)
    }

    async fn any_key(&self) -> Result<bool, StoreError> {
        let now = self.now();
        if let Some((any, until)) = self.memory().any
            && now < until
        {
            return Ok(any);
        }
        let any = self.0.context.store.api_key_exists().await?;
        self.memory().any = Some((any, now + KNOWN_FOR));
        Ok(any)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.0.context.clock.clock().monotonic()
    }
}
