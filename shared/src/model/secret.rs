//! The secrets of a definition: where they stand, how they are shown, and what stands in their place.
//!
//! A secret is the value of a secret header, or the password in the URL of a Redis target. What masks, restores,
//! seals and opens them goes through [`rewrite`], so that all of them mean the same places. It never encrypts: that
//! is `runtime::seal`.

use url::Url;

use super::redis_url::{RedisUrl, password_range};
use super::schedule::Definition;
use super::task::{Connection, TaskKind};

/// What a returned document shows instead of a secret. Sent back, it means the stored value.
pub const SECRET_MASK: &str = "***";
/// What a sealed value begins with.
pub const SEALED_PREFIX: &str = "sealed.v1.";

const ALWAYS: [&str; 4] = ["authorization", "cookie", "x-api-key", "proxy-authorization"];
const REFERENCE_SCHEME: &str = "secret://";
const MAX_REFERENCE_BYTES: usize = 128;

/// The names of the headers whose values are secret: some always are, others by configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretHeaders(Vec<String>);

impl SecretHeaders {
    /// Counts these in, too.
    #[must_use]
    pub fn and(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.0.extend(names);
        self
    }

    /// Whether the value of this header is secret. The case of the name does not matter.
    pub fn contains(&self, name: &str) -> bool {
        let configured = self.0.iter().map(String::as_str);
        ALWAYS.into_iter().chain(configured).any(|secret| secret.eq_ignore_ascii_case(name))
    }
}

/// One secret of a definition.
pub struct Slot<'a> {
    /// Where it stands: what a sealed value is bound to, beside the client key.
    pub place: String,
    /// The same for callers: a JSON pointer.
    pub pointer: String,
    /// What stands there.
    pub value: &'a str,
}

/// Visits every secret of a definition and puts what `each` answers in its place; nothing where it answers `None`.
///
/// A reference is no secret. A value that is sealed is one wherever it stands: whoever stored it had a longer list.
pub fn rewrite(
    definition: &mut Definition,
    headers: &SecretHeaders,
    mut each: impl FnMut(&Slot<'_>) -> Option<String>,
) {
    let connection = &mut definition.task.connection;
    for (name, value) in &mut connection.headers {
        if !(headers.contains(name) || is_sealed(value)) || Reference::read(value).is_some() {
            continue;
        }
        let place = format!("header:{}", name.to_ascii_lowercase());
        let pointer = format!("/task/connection/headers/{}", name.replace('~', "~0"));
        if let Some(new) = each(&Slot { place, pointer, value }) {
            *value = new;
        }
    }
    if let Some(range) = password_range(&connection.host) {
        let value = &connection.host[range.clone()];
        let slot = Slot { place: "password".to_owned(), pointer: "/task/connection/host".to_owned(), value };
        if let Some(new) = each(&slot) {
            connection.host.replace_range(range, &new);
        }
    }
}

/// Hides the secrets of a stored definition that is about to be shown, to a caller or to a target.
pub fn mask(definition: &mut Definition, headers: &SecretHeaders) {
    rewrite(definition, headers, |_| Some(SECRET_MASK.to_owned()));
}

/// Whether a caller may have sent back what was hidden from him.
pub fn is_masked(definition: &Definition) -> bool {
    let connection = &definition.task.connection;
    let password = password_range(&connection.host).map(|range| &connection.host[range]);
    connection.headers.values().any(|value| value == SECRET_MASK) || password == Some(SECRET_MASK)
}

/// Whether a value is a sealed one.
pub fn is_sealed(value: &str) -> bool {
    value.starts_with(SEALED_PREFIX)
}

/// Whether two definitions talk to the same server, so that one's secrets may go where the other's go: scheme, host
/// and port of a URL, the nodes of Redis, the brokers of Kafka, or the same named connection.
pub fn is_same_server(one: &Definition, other: &Definition) -> bool {
    let (kind, connection) = (one.task.kind, &one.task.connection);
    kind == other.task.kind
        && server(kind, connection).is_some_and(|it| Some(it) == server(kind, &other.task.connection))
}

/// What is equal for equal servers; `None` for what cannot be read, which is equal to nothing.
fn server(kind: TaskKind, connection: &Connection) -> Option<String> {
    if let Some(name) = &connection.name {
        return Some(format!("named {name}"));
    }
    let host = &connection.host;
    match kind {
        TaskKind::Rest => Some(Url::parse(host).ok()?.origin().ascii_serialization()),
        TaskKind::Redis => {
            let RedisUrl { tls, topology, nodes, .. } = RedisUrl::parse(host).ok()?;
            Some(format!("{tls} {topology:?} {nodes:?}"))
        }
        TaskKind::Kafka => {
            let mut brokers: Vec<String> = host.split(',').map(|broker| broker.trim().to_ascii_lowercase()).collect();
            brokers.sort();
            Some(brokers.join(","))
        }
    }
}

/// A value that the worker looks up when it dispatches: `secret://name`, or after a scheme word,
/// `Bearer secret://name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// What stands before it, its space included.
    pub before: &'a str,
    /// The name: letters, digits, `_`, `.` or `-`, and no dot in front.
    pub name: &'a str,
}

impl<'a> Reference<'a> {
    /// Reads a value; `None` when it is no reference.
    pub fn read(value: &'a str) -> Option<Self> {
        let (before, name) = value.split_at(value.find(REFERENCE_SCHEME)?);
        let name = &name[REFERENCE_SCHEME.len()..];
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
        let stands_well = before.is_empty() || before.strip_suffix(' ').is_some_and(is_word);
        (stands_well && is_reference_name(name)).then_some(Self { before, name })
    }

    /// Whether a value means to be a reference, although it may be none.
    pub fn is_meant(value: &str) -> bool {
        value.contains(REFERENCE_SCHEME)
    }
}

/// The name of what requests are signed with, among the secrets of an application: no reference leads to it.
pub const WEBHOOK_SIGNING: &str = "webhook-signing";

/// Whether this can be the name of a secret: it becomes the name of a file, so there is nothing in it to climb with.
pub fn is_reference_name(name: &str) -> bool {
    let permitted = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let is_name = (1..=MAX_REFERENCE_BYTES).contains(&name.len()) && !name.starts_with('.');
    // Some file systems make no difference of case.
    is_name && name.bytes().all(permitted) && !name.eq_ignore_ascii_case(WEBHOOK_SIGNING)
}
