//! Where a call goes, with nothing left to look up: the document's connection, or the one it names in the
//! server's configuration.
//!
//! Credentials live here and nowhere later: of a destination no outcome or metric shows anything, and the log of a target
//! that is away its scheme, host and port alone ([`Peer::shown`]).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use reveille_shared::model::brokers;
use reveille_shared::model::redis_url::RedisUrl;
use reveille_shared::model::run::{Outcome, OutcomeCode};
use reveille_shared::model::schedule::Definition;
use reveille_shared::model::task::{Task, TaskKind};
use serde::Deserialize;

use crate::secrets::{Referrer, Secrets};
use crate::signing::SigningKeys;

/// Connections of the server's configuration, by the names that documents use.
pub type Connections = BTreeMap<String, NamedConnection>;

/// A connection of the server's configuration.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedConnection {
    /// Which kind of target.
    #[serde(rename = "type")]
    pub kind: TaskKind,
    /// URL (rest, redis) or bootstrap list (kafka).
    pub host: String,
    /// Headers sent with every message (rest, kafka); a document's own win.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// User (redis ACL, kafka SASL).
    #[serde(default)]
    pub username: Option<String>,
    /// Password of the user.
    #[serde(default)]
    pub password: Option<String>,
    /// SASL mechanism (kafka): `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`; absent: no SASL.
    #[serde(default)]
    pub sasl_mechanism: Option<String>,
    /// Whether to use TLS (kafka; in a URL the scheme says so).
    #[serde(default)]
    pub tls: bool,
    /// PEM file of the certificate authorities to trust in place of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

impl fmt::Debug for NamedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedConnection").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl NamedConnection {
    /// Whether this build can serve it.
    ///
    /// # Errors
    /// The key at fault and a sentence, without the value of anything.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        match self.kind {
            TaskKind::Rest => {
                let url = url::Url::parse(&self.host).map_err(|error| ("host", format!("is not a URL: {error}")))?;
                if !matches!(url.scheme(), "http" | "https") {
                    return Err(("host", "must begin with http:// or https://".to_owned()));
                }
                self.leaves_out(&["username", "password", "sasl_mechanism", "tls", "ca_file"])
            }
            TaskKind::Redis => {
                let url = RedisUrl::parse(&self.host).map_err(|refusal| ("host", refusal))?;
                if !url.tls && (self.tls || self.ca_file.is_some()) {
                    let key = if self.tls { "tls" } else { "ca_file" };
                    return Err((key, "a URL with TLS begins with `rediss`".to_owned()));
                }
                self.leaves_out(&["sasl_mechanism", "headers"])
            }
            TaskKind::Kafka if cfg!(not(feature = "kafka")) => {
                Err(("type", "Kafka needs a build with the feature `kafka`".to_owned()))
            }
            TaskKind::Kafka => self.check_kafka(),
        }
    }

    fn check_kafka(&self) -> Result<(), (&'static str, String)> {
        brokers::parse(&self.host).map_err(|refusal| ("host", refusal))?;
        let mechanism = self.sasl_mechanism.as_deref();
        if !matches!(mechanism, None | Some("PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512")) {
            return Err(("sasl_mechanism", "must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512".to_owned()));
        }
        let has_user = self.username.is_some() || self.password.is_some();
        match mechanism {
            None if has_user => return Err(("sasl_mechanism", "is missing, and the user needs one".to_owned())),
            Some(_) if self.username.is_none() => return Err(("username", "is missing".to_owned())),
            Some(_) if self.password.is_none() => return Err(("password", "is missing".to_owned())),
            _ => {}
        }
        if self.ca_file.is_some() && !self.tls {
            return Err(("ca_file", "is for `tls = true`".to_owned()));
        }
        let needs_openssl = self.tls || mechanism.is_some_and(|mechanism| mechanism != "PLAIN");
        if needs_openssl && cfg!(not(feature = "kafka-tls")) {
            let key = if self.tls { "tls" } else { "sasl_mechanism" };
            return Err((key, "TLS and SCRAM to Kafka need a build with the feature `kafka-tls`".to_owned()));
        }
        Ok(())
    }

    /// What a kind of target has no use for is refused: whoever wrote it relies on it.
    fn leaves_out(&self, unused: &[&'static str]) -> Result<(), (&'static str, String)> {
        let given = [
            ("username", self.username.is_some()),
            ("password", self.password.is_some()),
            ("sasl_mechanism", self.sasl_mechanism.is_some()),
            ("tls", self.tls),
            ("ca_file", self.ca_file.is_some()),
            ("headers", !self.headers.is_empty()),
        ];
        let found = given.into_iter().find(|(key, is_given)| *is_given && unused.contains(key));
        found.map_or(Ok(()), |(key, _)| Err((key, "has no meaning for this type".to_owned())))
    }
}

/// Where one call goes.
pub(crate) struct Destination {
    pub(crate) endpoint: Endpoint,
    pub(crate) headers: BTreeMap<String, String>,
    /// What requests are signed with (rest).
    pub(crate) signing: SigningKeys,
}

/// What one connection serves: calls to equal endpoints share theirs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// URL (rest, redis) or bootstrap list (kafka).
    pub(crate) host: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) sasl_mechanism: Option<String>,
    pub(crate) tls: bool,
    pub(crate) ca_file: Option<PathBuf>,
}

/// What calls have in common that find nobody there, or nobody who answers in time.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    /// Of an HTTP URL the server, whatever the path.
    endpoint: Endpoint,
    kind: TaskKind,
}

impl Peer {
    /// Scheme, host and port, for people.
    pub(crate) fn shown(&self) -> String {
        match self.kind {
            TaskKind::Rest => {
                let url = url::Url::parse(&self.endpoint.host).ok();
                url.map_or_else(|| "a URL that cannot be read".to_owned(), |url| url.origin().ascii_serialization())
            }
            TaskKind::Redis => match RedisUrl::parse(&self.endpoint.host) {
                Ok(url) => {
                    let nodes: Vec<String> = url.nodes.iter().map(|(host, port)| format!("{host}:{port}")).collect();
                    format!("{}://{}", if url.tls { "rediss" } else { "redis" }, nodes.join(","))
                }
                Err(_) => "a URL that cannot be read".to_owned(),
            },
            // A bootstrap list names hosts and ports, nothing else.
            TaskKind::Kafka => format!("kafka://{}", self.endpoint.host),
        }
    }

    #[cfg(test)]
    pub(crate) fn at(host: &str) -> Self {
        Endpoint::at(host).peer(TaskKind::Kafka)
    }
}

impl Endpoint {
    /// Whom a call that goes there meets.
    pub(crate) fn peer(&self, kind: TaskKind) -> Peer {
        let url = if kind == TaskKind::Rest { url::Url::parse(&self.host).ok() } else { None };
        let host = url.map_or_else(|| self.host.clone(), |url| url.origin().ascii_serialization());
        Peer { endpoint: Self { host, ..self.clone() }, kind }
    }

    /// A host without anything else.
    pub(crate) fn at(host: &str) -> Self {
        Self { host: host.to_owned(), username: None, password: None, sasl_mechanism: None, tls: false, ca_file: None }
    }
}

impl Destination {
    /// The destination of a task.
    ///
    /// # Errors
    /// The outcome of a call that cannot be made for what this worker does not know.
    pub(crate) fn of(task: &Task, connections: &Connections) -> Result<Self, Outcome> {
        let connection = &task.connection;
        let Some(name) = &connection.name else {
            return Ok(Self {
                endpoint: Endpoint::at(&connection.host),
                headers: connection.headers.clone(),
                signing: SigningKeys::default(),
            });
        };
        let named = connections.get(name).filter(|named| named.kind == task.kind).ok_or_else(|| {
            // Not refused for good: the worker's configuration may only be older than the API's.
            Outcome::new(OutcomeCode::Connect, "the connection that the task names is not configured on this worker")
        })?;
        let is_overridden = |name: &str| connection.headers.keys().any(|own| own.eq_ignore_ascii_case(name));
        let inherited = named.headers.iter().filter(|(name, _)| !is_overridden(name));
        let headers = inherited.chain(&connection.headers).map(|(name, value)| (name.clone(), value.clone()));
        let endpoint = Endpoint {
            host: named.host.clone(),
            username: named.username.clone(),
            password: named.password.clone(),
            sasl_mechanism: named.sasl_mechanism.clone(),
            tls: named.tls,
            ca_file: named.ca_file.clone(),
        };
        Ok(Self { endpoint, headers: headers.collect(), signing: SigningKeys::default() })
    }

    /// The same with what it refers to. A connection refers to secrets of connections, a document to those of its
    /// application.
    ///
    /// # Errors
    /// The outcome of a call that cannot be made for a secret that is not known, by its name.
    pub(crate) async fn resolved(mut self, definition: &Definition, secrets: &Secrets) -> Result<Self, Outcome> {
        let own = &definition.task.connection.headers;
        for (name, value) in &mut self.headers {
            let referrer = match own.contains_key(name) {
                true => Referrer::Application(&definition.client.application),
                false => Referrer::Connection,
            };
            *value = secrets.filled_in(referrer, value).await?;
        }
        // Documents have neither.
        for value in [&mut self.endpoint.username, &mut self.endpoint.password].into_iter().flatten() {
            *value = secrets.filled_in(Referrer::Connection, value).await?;
        }
        if definition.task.kind == TaskKind::Rest {
            self.signing = secrets.signing_keys(&definition.client.application).await?;
        }
        Ok(self)
    }
}
