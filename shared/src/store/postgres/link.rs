//! Connections to PostgreSQL, and what is done when one of them is of no use any more.
//!
//! ```text
//!           take                  statements, within the deadline of the call            kept for the next call
//!   call ─────────▶ link ───────────────────────────────────────────────────▶ answered ────────────────────────▶ idle
//!            ▲                        │                                                                            │
//!            │ once more              ▼ broken, read-only, silent: thrown away, and its elders with it             │
//!            └────────────────────────┴────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A connection may die without a word: a fail-over behind a virtual address, a firewall that forgot it. So every call
//! has a deadline on this side; the server ends a statement before that, so whoever is still silent then is gone. And
//! where one connection is of no use those made before it are not either, so that they do not cost a caller each.
//!
//! A pool of our own, and not sqlx's: that one asks the server after every use whether the connection is still good,
//! which is a second way there and back for each statement, and it says of a server that refuses connections only that
//! the pool timed out.
//!
//! Behind a pooler a session is nobody's: each call is a transaction of its own that begins with our settings, and
//! nothing that is prepared has a name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Decode, Postgres, Row, Type};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::hosts::{Connected, Hosts, silent};
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::telemetry::whole_ms;
use crate::store::{StatementCounter, StoreError, StoreSettings};

/// Which part of a call's time a server that refuses connections is waited for: it may be starting.
const STARTING_PART: f64 = 0.6;

/// A connection that was idle for longer is asked before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(30);

/// How long it may take to say that it is there.
const PING_LIMIT: Duration = Duration::from_secs(1);

/// Who gives up waiting for an answer after this long may know that nobody is there.
const SUSPICIOUS: Duration = Duration::from_secs(1);

/// What takes longer is logged.
const SLOW: Duration = Duration::from_secs(1);

/// The connections of a store.
pub(super) struct Links {
    hosts: Hosts,
    clock: SystemClock,
    starting_limit: Duration,
    places: Arc<Semaphore>,
    idle: Mutex<Idle>,
    statements: StatementCounter,
}

/// What nobody uses at the moment, the one used last at the end.
#[derive(Default)]
struct Idle {
    kept: Vec<Kept>,
    /// What was made before is thrown away.
    purged_at: Duration,
    is_closed: bool,
}

struct Kept {
    connection: PgConnection,
    is_pooled: bool,
    made_at: Duration,
    idle_since: Duration,
}

impl Links {
    /// The connections to `hosts`, for calls that may take this long.
    pub(super) fn new(hosts: Hosts, settings: &StoreSettings, statements: StatementCounter) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(settings.connections.max(1) as usize));
        let starting_limit = settings.deadline.mul_f64(STARTING_PART);
        Arc::new(Self { hosts, clock: SystemClock::new(), starting_limit, places, idle: Mutex::default(), statements })
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// A connection that is good as far as anybody knows.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Link, sqlx::Error> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        while let Some(mut kept) = self.pop() {
            let now = self.now();
            if now.saturating_sub(kept.idle_since) > TRUSTED_IDLE
                && !matches!(timeout(PING_LIMIT, kept.connection.ping()).await, Ok(Ok(())))
            {
                self.purge(now);
                continue;
            }
            let Kept { connection, is_pooled, made_at, .. } = kept;
            return Ok(self.link(Connected { connection, is_pooled }, made_at, place));
        }
        let connected = self.connect().await?;
        Ok(self.link(connected, self.now(), place))
    }

    fn link(self: &Arc<Self>, connected: Connected, made_at: Duration, place: OwnedSemaphorePermit) -> Link {
        let Connected { connection, is_pooled } = connected;
        Link {
            links: self.clone(),
            connection: Some(connection),
            is_pooled,
            made_at,
            sent_at: made_at,
            is_busy: false,
            in_transaction: false,
            is_aborted: false,
            is_committing: false,
            _place: place,
        }
    }

    /// A new connection. Waits a while for a server that is starting.
    pub(super) async fn connect(&self) -> Result<Connected, sqlx::Error> {
        let mut backoff = Backoff::new();
        let give_up_at = self.now() + self.starting_limit;
        loop {
            let error = match self.hosts.connect().await {
                Ok(connected) => return Ok(connected),
                Err(error) => error,
            };
            let pause = backoff.pause();
            if !is_starting(&error) || self.now() + pause >= give_up_at {
                return Err(error);
            }
            self.clock.sleep(pause).await;
        }
    }

    fn pop(&self) -> Option<Kept> {
        self.lock().kept.pop()
    }

    fn keep(&self, connection: PgConnection, is_pooled: bool, made_at: Duration) {
        let mut idle = self.lock();
        if !idle.is_closed && made_at >= idle.purged_at {
            idle.kept.push(Kept { connection, is_pooled, made_at, idle_since: self.now() });
        }
    }

    /// Whether the connection that was given back last goes through a pooler.
    pub(super) fn is_pooled(&self) -> bool {
        self.lock().kept.last().is_some_and(|kept| kept.is_pooled)
    }

    /// Throws away what was made before `made_before`.
    pub(super) fn purge(&self, made_before: Duration) {
        let mut idle = self.lock();
        idle.purged_at = idle.purged_at.max(made_before);
        let purged_at = idle.purged_at;
        idle.kept.retain(|kept| kept.made_at >= purged_at);
    }

    /// Says goodbye to the server on every connection that nobody uses; those in use are closed when they are done.
    pub(super) async fn close(&self) {
        let kept = {
            let mut idle = self.lock();
            idle.is_closed = true;
            std::mem::take(&mut idle.kept)
        };
        self.places.close();
        for kept in kept {
            let _ = timeout(PING_LIMIT, kept.connection.close()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in the hands of one call. Dropped in the middle of a statement or of a transaction it is thrown away.
pub(super) struct Link {
    links: Arc<Links>,
    /// `None` once it was put back.
    connection: Option<PgConnection>,
    is_pooled: bool,
    made_at: Duration,
    /// When the last statement was sent.
    sent_at: Duration,
    is_busy: bool,
    in_transaction: bool,
    /// Whether the server refuses what follows in this transaction.
    is_aborted: bool,
    /// Whether a commit was sent: from then on nobody knows before it is answered.
    is_committing: bool,
    _place: OwnedSemaphorePermit,
}

impl Link {
    /// Begins a transaction, with further settings for it (`SET LOCAL …`).
    pub(super) async fn begin(&mut self, settings: &'static str) -> Result<(), sqlx::Error> {
        if self.in_transaction {
            if !settings.is_empty() {
                self.raw(settings).await?;
            }
            return Ok(());
        }
        let begin = match (self.is_pooled, settings) {
            (true, "") => self.links.hosts.begin_pooled.clone(),
            (true, settings) => format!("{}; {settings}", self.links.hosts.begin_pooled),
            (false, "") => "BEGIN".to_owned(),
            (false, settings) => format!("BEGIN; {settings}"),
        };
        self.in_transaction = true;
        self.raw(&begin).await
    }

    async fn raw(&mut self, text: &str) -> Result<(), sqlx::Error> {
        let outcome = sqlx::raw_sql(AssertSqlSafe(text)).execute(self.enter()?).await;
        self.leave(outcome).map(|_| ())
    }

    /// The rows of an answer.
    pub(super) async fn all(&mut self, query: PgQuery<'_>) -> Result<Vec<PgRow>, sqlx::Error> {
        let query = self.prepare(query).await?;
        let outcome = query.fetch_all(self.enter()?).await;
        self.leave(outcome)
    }

    /// The one row of an answer.
    pub(super) async fn one(&mut self, query: PgQuery<'_>) -> Result<PgRow, sqlx::Error> {
        self.optional(query).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// The row of an answer that may have none.
    pub(super) async fn optional(&mut self, query: PgQuery<'_>) -> Result<Option<PgRow>, sqlx::Error> {
        let query = self.prepare(query).await?;
        let outcome = query.fetch_optional(self.enter()?).await;
        self.leave(outcome)
    }

    /// The first column of each row.
    pub(super) async fn values<T: Value>(&mut self, query: PgQuery<'_>) -> Result<Vec<T>, sqlx::Error> {
        self.all(query).await?.iter().map(|row| row.try_get(0)).collect()
    }

    /// The first column of the one row.
    pub(super) async fn value<T: Value>(&mut self, query: PgQuery<'_>) -> Result<T, sqlx::Error> {
        self.one(query).await?.try_get(0)
    }

    /// The first column of a row that may not be there.
    pub(super) async fn optional_value<T: Value>(&mut self, query: PgQuery<'_>) -> Result<Option<T>, sqlx::Error> {
        self.optional(query).await?.map(|row| row.try_get(0)).transpose()
    }

    /// Answers how many rows were written.
    pub(super) async fn execute(&mut self, query: PgQuery<'_>) -> Result<u64, sqlx::Error> {
        let query = self.prepare(query).await?;
        let outcome = query.execute(self.enter()?).await;
        self.leave(outcome).map(|done| done.rows_affected())
    }

    /// Ends the call: commits or takes back what it did, if that is still open, and puts the connection back.
    pub(super) async fn finish<T>(mut self, outcome: Result<T, StoreError>) -> Result<T, Failed> {
        let mut outcome = outcome;
        if self.in_transaction && !self.is_busy {
            let ended = match &outcome {
                Ok(_) if !self.is_aborted => {
                    self.is_committing = true;
                    self.raw("COMMIT").await
                }
                _ => self.raw("ROLLBACK").await,
            };
            self.in_transaction = ended.is_err();
            if let (Ok(_), Err(error)) = (&outcome, ended) {
                outcome = Err(error.into());
            }
        }
        outcome.map_err(|error| Failed { error, in_doubt: self.is_committing })
    }

    /// Behind a pooler every statement is part of a transaction, of a new one after one that was refused.
    async fn prepare<'q>(&mut self, query: PgQuery<'q>) -> Result<PgQuery<'q>, sqlx::Error> {
        if !self.is_pooled {
            return Ok(query);
        }
        if std::mem::take(&mut self.is_aborted) {
            self.raw("ROLLBACK").await?;
            self.in_transaction = false;
        }
        self.begin("").await?;
        Ok(query.persistent(false))
    }

    fn enter(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.links.statements.count(1);
        (self.is_busy, self.sent_at) = (true, self.links.now());
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    fn leave<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.is_busy = outcome.as_ref().is_err_and(is_of_the_link);
        self.is_aborted = self.in_transaction && matches!(outcome, Err(sqlx::Error::Database(_)));
        outcome
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // In the middle of something nobody knows what the server is at: it hears from the closed socket that it may stop.
        if !self.is_busy && !self.in_transaction {
            self.links.keep(connection, self.is_pooled, self.made_at);
        } else if self.is_busy && self.links.now() > self.sent_at + SUSPICIOUS {
            self.links.purge(self.sent_at);
        }
    }
}

/// What a column is read as.
pub(super) trait Value: for<'r> Decode<'r, Postgres> + Type<Postgres> {}
impl<T: for<'r> Decode<'r, Postgres> + Type<Postgres>> Value for T {}

/// A statement with its parameters.
pub(super) type PgQuery<'q> = Query<'q, Postgres, PgArguments>;

/// How a call ended badly.
pub(super) struct Failed {
    error: StoreError,
    /// Whether it may have been committed although it did not look so.
    in_doubt: bool,
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self { error: error.into(), in_doubt: false }
    }
}

/// One call of the store: as many attempts as its deadline and its failures allow.
pub(super) struct Call<'a> {
    name: &'static str,
    links: &'a Links,
    began_at: Duration,
    deadline: Duration,
    conflicts: u32,
    is_repeated: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(name: &'static str, links: &'a Links, deadline: Duration) -> Self {
        Self { name, links, began_at: links.now(), deadline, conflicts: 0, is_repeated: false }
    }

    /// How long it may still take.
    pub(super) fn remaining(&self) -> Duration {
        (self.began_at + self.deadline).saturating_sub(self.links.now())
    }

    /// What becomes of the call after an attempt on a connection that was taken at `taken_at`, if it had one by then;
    /// the attempt is `None` when it ran out of time. `None`: once more.
    pub(super) fn judge<T>(
        &mut self,
        attempt: Option<Result<T, Failed>>,
        taken_at: Option<Duration>,
    ) -> Option<Result<T, StoreError>> {
        let Failed { error, in_doubt } = match attempt {
            Some(Ok(done)) => {
                self.log_if_slow();
                return Some(Ok(done));
            }
            Some(Err(failed)) => failed,
            None => {
                let text = format!("no answer to `{}` within {} s", self.name, self.deadline.as_secs_f64());
                return Some(Err(silent(&text).into()));
            }
        };
        if is_resolved_conflict(&error) && self.conflicts < 3 {
            self.conflicts += 1;
            return None;
        }
        if let (StoreError::Unavailable(cause), Some(taken_at)) = (&error, taken_at)
            && is_of_the_link(cause)
        {
            self.links.purge(taken_at);
            // Every call may be sent twice; after a commit it would answer what is left for the second to do.
            if !in_doubt && !std::mem::replace(&mut self.is_repeated, true) {
                return None;
            }
        }
        Some(Err(error))
    }

    fn log_if_slow(&self) {
        let took = self.links.now().saturating_sub(self.began_at);
        if took > SLOW {
            tracing::warn!(call = self.name, took_ms = whole_ms(took), "the database was slow to answer");
        }
    }
}

/// Whether an error is the connection's and not the statement's: another connection may do better.
fn is_of_the_link(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            // What the server says before it hangs up: shutting down, starting, idle for too long.
            code.starts_with("08") || code.starts_with("57P") || code == "25P03"
            // It was the primary when this connection was made.
            || code == "25006"
            // A plan, or a name of a plan, that does not hold any more: a column's type, a pooler's other session.
            || matches!(&*code, "0A000" | "26000" | "42P05")
        }),
        sqlx::Error::RowNotFound
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Encode(_) => false,
        _ => true,
    }
}

/// Whether a server refuses connections that will accept them in a moment.
fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => {
            matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::Other)
        }
        // 57P03: cannot connect now; 53300: too many connections, as when those before are not gone yet.
        sqlx::Error::Database(database) => matches!(database.code().as_deref(), Some("57P03" | "53300")),
        _ => false,
    }
}

/// Whether the same statement may succeed at once: a deadlock or serialization failure was resolved
/// against it.
fn is_resolved_conflict(error: &StoreError) -> bool {
    let StoreError::Unavailable(sqlx::Error::Database(database)) = error else { return false };
    matches!(database.code().as_deref(), Some("40001" | "40P01"))
}

/// Performs `$body` with a link, within the deadline of the call, and again where that may help.
macro_rules! called {
    ($store:expr, $name:literal, |$link:ident| $body:expr) => {{
        let mut call = Call::new($name, &$store.links, $store.settings.deadline);
        loop {
            let mut taken_at = None;
            let attempt = tokio::time::timeout(call.remaining(), async {
                let mut $link = $store.links.take().await?;
                taken_at = Some($store.links.now());
                let outcome = $body.await;
                $link.finish(outcome).await
            });
            let attempt = attempt.await.ok();
            if let Some(outcome) = call.judge(attempt, taken_at) {
                break $store.standing.noted(outcome);
            }
        }
    }};
}
pub(super) use called;
