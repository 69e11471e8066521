//! Where PostgreSQL is, and whether what answers there is of use: several hosts, a standby among them, a pooler in front.
//!
//! `postgres://user@a,b:5433/db` names two hosts, as libpq has it (PostgreSQL manual, 34.1.1.3). They are tried in turn,
//! the one that was good last first, and only one that takes writes is good: after a fail-over that is the other one.
//!
//! A pooler such as PgBouncer keeps connections of its own to the server, so the settings of our start-up packet do not
//! arrive there: it refuses or ignores them. By that it is known, without a setting. What is prepared, set or locked in a
//! session may then be somebody else's by the next transaction; see [`super::link`] for what is done about it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::time::timeout;

use crate::store::StoreError;

/// What the planner may choose from. Every statement here is written for loops over indexes, and what else it would
/// think of, it thinks of for want of statistics: a table that was empty when a plan was made is read as a whole by
/// that plan until somebody analyzes it. Generic plans, because those that depend on the values are made anew for each
/// small batch, which takes longer than running them.
pub const PLANNER: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// How long one host may take to let us in, before the next is tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// A setting that arrives only where nothing stands between us and the server.
const DIRECT: (&str, &str) = ("reveille.direct", "on");

/// What is asked of a new connection.
const CHECK: &str = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS is_read_only, \
                     coalesce(current_setting('reveille.direct', true), '') = 'on' AS is_direct, \
                     current_setting('server_encoding') AS encoding";

/// The hosts of a URL.
pub(super) struct Hosts {
    hosts: Vec<Host>,
    /// Which of them was good last.
    last_good: AtomicUsize,
    /// How transactions begin behind a pooler, where no session keeps our settings.
    pub(super) begin_pooled: String,
}

struct Host {
    name: String,
    direct: PgConnectOptions,
    /// Without settings.
    pooled: PgConnectOptions,
    refuses_settings: AtomicBool,
}

/// A connection that takes writes.
pub(super) struct Connected {
    pub(super) connection: PgConnection,
    pub(super) is_pooled: bool,
}

impl Hosts {
    /// The hosts of `url`, for statements of which none may take longer than `statement_limit`.
    ///
    /// # Errors
    /// [`StoreError::Broken`] when it is not a URL of PostgreSQL.
    pub(super) fn of(url: &str, statement_limit: Duration) -> Result<Self, StoreError> {
        let (limit, lock_limit) =
            (format!("{}ms", statement_limit.as_millis()), format!("{}ms", statement_limit.as_millis() / 4));
        let limits = [
            ("statement_timeout", limit.as_str()),
            ("lock_timeout", lock_limit.as_str()),
            ("idle_in_transaction_session_timeout", "5s"),
        ];
        let settings: Vec<(&str, &str)> = limits.into_iter().chain(PLANNER).collect();
        let hosts = each_host(url)
            .into_iter()
            .map(|(name, url)| Host::of(name, &url, &settings))
            .collect::<Result<Vec<Host>, StoreError>>()?;
        let set = |(name, value): &(&str, &str)| format!("; SET LOCAL {name} = '{value}'");
        let begin_pooled = format!("BEGIN{}", settings.iter().map(set).collect::<String>());
        Ok(Self { hosts, last_good: AtomicUsize::new(0), begin_pooled })
    }

    /// A new connection to the first host that is of use.
    ///
    /// # Errors
    /// Why there is none; [`sqlx::Error::Configuration`] when what answers will not be of use before somebody changes it.
    pub(super) async fn connect(&self) -> Result<Connected, sqlx::Error> {
        let first = self.last_good.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for step in 0..self.hosts.len() {
            let index = (first + step) % self.hosts.len();
            let host = &self.hosts[index];
            let outcome = timeout(CONNECT_LIMIT, host.connect()).await;
            match outcome.unwrap_or_else(|_| Err(silent("nobody answered there"))) {
                Ok(connected) => {
                    self.last_good.store(index, Ordering::Relaxed);
                    return Ok(connected);
                }
                Err(error) => failures.push((&host.name, error)),
            }
        }
        Err(together(failures))
    }
}

impl Host {
    fn of(name: String, url: &str, settings: &[(&str, &str)]) -> Result<Self, StoreError> {
        let options: PgConnectOptions =
            url.parse().map_err(|_| StoreError::Broken("the database URL is not a postgres:// URL".to_owned()))?;
        let options = options
            .application_name("reveille")
            // Refused by poolers, and no float is ever read.
            .extra_float_digits(None)
            // A statement is thousands of characters long; who calls it logs its name.
            .disable_statement_logging();
        let pooled = options.clone();
        let direct = options.options(settings.iter().copied()).options([DIRECT]);
        Ok(Self { name, direct, pooled, refuses_settings: AtomicBool::new(false) })
    }

    async fn connect(&self) -> Result<Connected, sqlx::Error> {
        let refuses_settings = self.refuses_settings.load(Ordering::Relaxed);
        let connecting = if refuses_settings { self.pooled.connect() } else { self.direct.connect() };
        let connection = match connecting.await {
            Err(error) if !refuses_settings && is_of_settings(&error) => {
                self.refuses_settings.store(true, Ordering::Relaxed);
                self.pooled.connect().await?
            }
            connection => connection?,
        };
        let (connection, is_direct) = self.checked(connection).await?;
        Ok(Connected { connection, is_pooled: !is_direct })
    }

    /// Answers whether nothing stands between us and the server.
    async fn checked(&self, mut connection: PgConnection) -> Result<(PgConnection, bool), sqlx::Error> {
        let row = sqlx::raw_sql(CHECK).fetch_one(&mut connection).await?;
        if row.try_get("is_read_only")? {
            connection.close_hard().await?;
            let text =
                format!("{} takes no writes: a standby? Name the primary, or all hosts: postgres://a,b/…", self.name);
            return Err(sqlx::Error::Configuration(text.into()));
        }
        let encoding: String = row.try_get("encoding")?;
        if encoding != "UTF8" {
            connection.close_hard().await?;
            let text =
                format!("the database's encoding is {encoding} and has to be UTF8: CREATE DATABASE … ENCODING 'UTF8'");
            return Err(sqlx::Error::Configuration(text.into()));
        }
        Ok((connection, row.try_get("is_direct")?))
    }
}

/// Whether a pooler refused the settings of the start-up packet: 08P01, protocol violation.
fn is_of_settings(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.code().as_deref() == Some("08P01") || error.message().contains("startup parameter"))
}

/// What is said of who did not answer in time.
pub(super) fn silent(text: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text.to_owned()))
}

/// One error for all hosts.
fn together(mut failures: Vec<(&String, sqlx::Error)>) -> sqlx::Error {
    if failures.len() == 1
        && let Some((_, error)) = failures.pop()
    {
        return error;
    }
    let are_lasting = failures.iter().all(|(_, error)| matches!(error, sqlx::Error::Configuration(_)));
    let texts: Vec<String> = failures.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    let text = texts.join("; ");
    if are_lasting { sqlx::Error::Configuration(text.into()) } else { sqlx::Error::Io(std::io::Error::other(text)) }
}

/// The hosts of a URL by name, each with a URL of its own. `target_session_attrs`, which goes with several in libpq, says
/// what is done anyway.
fn each_host(url: &str) -> Vec<(String, String)> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    let path = without_parameter(path, "target_session_attrs");
    let one = |host: &str| {
        let name = if host.is_empty() { "the database" } else { host };
        (name.to_owned(), format!("{scheme}://{user}{at}{host}{path}"))
    };
    hosts.split(',').map(one).collect()
}

fn without_parameter(path: &str, name: &str) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    let is_other = |parameter: &&str| parameter.split('=').next() != Some(name);
    let kept: Vec<&str> = query.split('&').filter(is_other).collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_name_several_hosts() {
        let check = |url: &str, expected: &[(&str, &str)]| {
            let expected: Vec<(String, String)> =
                expected.iter().map(|(name, url)| ((*name).to_owned(), (*url).to_owned())).collect();
            assert_eq!(each_host(url), expected);
        };
        check("postgres://h/db", &[("h", "postgres://h/db")]);
        check(
            "postgres://u:p%40@a:1,b,[::1]:3/db?sslmode=require&target_session_attrs=read-write",
            &[
                ("a:1", "postgres://u:p%40@a:1/db?sslmode=require"),
                ("b", "postgres://u:p%40@b/db?sslmode=require"),
                ("[::1]:3", "postgres://u:p%40@[::1]:3/db?sslmode=require"),
            ],
        );
        check("postgresql:///db?host=/tmp", &[("the database", "postgresql:///db?host=/tmp")]);
        check("postgres://a,b?target_session_attrs=any", &[("a", "postgres://a"), ("b", "postgres://b")]);
    }

    #[test]
    fn what_all_hosts_said_is_one_error() {
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let unfit = || sqlx::Error::Configuration("takes no writes".into());
        assert!(matches!(together(vec![(&a, unfit())]), sqlx::Error::Configuration(_)));
        assert!(matches!(together(vec![(&a, unfit()), (&b, unfit())]), sqlx::Error::Configuration(_)));
        let mixed = together(vec![(&a, unfit()), (&b, silent("nobody answered there"))]);
        assert!(matches!(&mixed, sqlx::Error::Io(_)), "{mixed}");
        assert!(mixed.to_string().contains("b: ") && mixed.to_string().contains("nobody answered there"), "{mixed}");
    }
}
