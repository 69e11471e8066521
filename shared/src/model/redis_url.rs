//! The URL of a Redis target: a server, a Sentinel group or a cluster.
//!
//! ```text
//!   redis://[[user]:password@]host[:6379][/database]
//!   redis+sentinel://[[user]:password@]host[:26379],host…/master[/database]
//!   redis+cluster://[[user]:password@]host[:6379],host…
//! ```
//! `rediss` in place of `redis` means TLS. The credentials are those of the Redis servers. Source: the `redis` and
//! `rediss` schemes as registered with IANA; several hosts, Sentinel and cluster in the form that other clients take.

use std::ops::Range;

use percent_encoding::percent_decode_str;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// More are never needed to find the rest.
const MAX_NODES: usize = 16;

/// Where a Redis target is.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Whether connections are TLS.
    pub tls: bool,
    /// What the nodes are.
    pub topology: Topology,
    /// Host (an IPv6 address without brackets) and port of each node that is named.
    pub nodes: Vec<(String, u16)>,
    /// ACL user.
    pub username: Option<String>,
    /// Its password, or the server's.
    pub password: Option<String>,
    /// Number of the database.
    pub database: i64,
}

/// What the nodes of a URL are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// The server itself.
    Single,
    /// Sentinels that know the master.
    Sentinel {
        /// The master's name.
        master: String,
    },
    /// Some nodes of a cluster.
    Cluster,
}

impl RedisUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// A sentence without its subject that never quotes credentials.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
            return Err("must not contain white space or control characters".to_owned());
        }
        let (scheme, rest) = text.split_once("://").unwrap_or((text, ""));
        let (tls, kind) = match scheme.split_once('+').unwrap_or((scheme, "")) {
            ("redis", kind) => (false, kind),
            ("rediss", kind) => (true, kind),
            _ => return Err(bad_scheme()),
        };
        if rest.contains(['?', '#']) {
            return Err("must not have a query or a fragment".to_owned());
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let (topology, database) = match kind {
            "" => (Topology::Single, path),
            "cluster" if path.is_empty() || path == "0" => (Topology::Cluster, ""),
            "cluster" => return Err("names a database; a cluster has only one".to_owned()),
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err("must name the master: redis+sentinel://host:26379/master".to_owned());
                }
                (Topology::Sentinel { master: decoded(master)? }, database)
            }
            _ => return Err(bad_scheme()),
        };
        let default_port = if matches!(topology, Topology::Sentinel { .. }) { SENTINEL_PORT } else { PORT };
        let nodes = hosts.split(',').map(|host| node(host, default_port)).collect::<Result<Vec<_>, _>>()?;
        if nodes.len() > MAX_NODES || nodes.len() > 1 && topology == Topology::Single {
            return Err("names too many hosts".to_owned());
        }
        let (username, password) = match credentials.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            Some((username, password)) => (some(decoded(username)?), some(decoded(password)?)),
            None => (None, None),
        };
        Ok(Self { tls, topology, nodes, username, password, database: number(database)? })
    }
}

/// Where the password stands in a Redis URL, as it is written there; `None` when there is none.
pub fn password_range(text: &str) -> Option<Range<usize>> {
    let begin = text.find("://")? + 3;
    let end = text[begin..].find('/').map_or(text.len(), |slash| begin + slash);
    let at = begin + text[begin..end].rfind('@')?;
    let colon = begin + text[begin..at].find(':')?;
    (colon + 1 < at).then_some(colon + 1..at)
}

fn bad_scheme() -> String {
    "must begin with redis:// or rediss://, or with redis+sentinel:// or redis+cluster:// and the like".to_owned()
}

fn node(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let unreadable = || "must name its host as host:port".to_owned();
    // The colons of an IPv6 address are inside its brackets.
    let name_end = text.find(']').map_or(0, |bracket| bracket + 1);
    let (name, port) = match text[name_end..].split_once(':') {
        Some((rest, port)) => (&text[..name_end + rest.len()], Some(port)),
        None => (text, None),
    };
    let port = port.map_or(Some(default_port), |port| port.parse().ok().filter(|port| *port > 0));
    let host = url::Host::parse(name).map_err(|_| unreadable())?;
    let host = match host {
        url::Host::Ipv6(address) => address.to_string(),
        host => host.to_string(),
    };
    Ok((host, port.ok_or_else(unreadable)?))
}

fn number(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = text.parse().ok().filter(|number| (0..=1_000_000).contains(number));
    number.ok_or_else(|| "must name its database by a number".to_owned())
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "is not percent-encoded UTF-8".to_owned())?;
    if decoded.contains('\0') {
        return Err("must not contain the character NUL".to_owned());
    }
    Ok(decoded.into_owned())
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, tls: bool, topology: Topology, nodes: &[(&str, u16)], login: [&str; 2], database: i64) {
        let url = RedisUrl::parse(text).unwrap_or_else(|error| panic!("{text} {error}"));
        let nodes: Vec<_> = nodes.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
        assert_eq!((url.tls, &url.topology, &url.nodes, url.database), (tls, &topology, &nodes, database), "{text}");
        let found = [url.username.unwrap_or_default(), url.password.unwrap_or_default()];
        assert_eq!(found, login, "{text}");
    }

    #[test]
    fn servers_sentinels_and_clusters_are_read() {
        let none = ["", ""];
        check("redis://h", false, Topology::Single, &[("h", 6379)], none, 0);
        check("rediss://u:p%40s@h:7/3", true, Topology::Single, &[("h", 7)], ["u", "p@s"], 3);
        check("redis://:a@b@[::1]:7", false, Topology::Single, &[("::1", 7)], ["", "a@b"], 0);
        let master = || Topology::Sentinel { master: "my master".to_owned() };
        check("redis+sentinel://a,b:1/my%20master/2", false, master(), &[("a", 26379), ("b", 1)], none, 2);
        check("rediss+cluster://:p@a,b:2", true, Topology::Cluster, &[("a", 6379), ("b", 2)], ["", "p"], 0);
        check("redis://2852039166", false, Topology::Single, &[("169.254.169.254", 6379)], none, 0);
    }

    #[test]
    fn what_is_no_redis_url_is_refused_without_quoting_it() {
        for bad in [
            "",
            "h",
            "http://h",
            "redis://",
            "redis://:secret@",
            "redis://:secret@h:0",
            "redis://:secret@h:x",
            "redis://h/secret",
            "redis://h/-1",
            "redis://h?secret=1",
            "redis://a,b",
            "redis+sentinel://h",
            "redis+cluster://h/1",
            "redis+secret://h",
            "redis://:%ff@h",
            "redis://:secret @h",
            "redis://[::1",
        ] {
            let refusal = RedisUrl::parse(bad).err().unwrap_or_else(|| panic!("{bad} was accepted"));
            assert!(!refusal.contains("secret"), "{refusal}");
        }
    }

    #[test]
    fn the_password_is_found_where_it_is_written() {
        let found = |text: &'static str| password_range(text).map(|range| &text[range]);
        assert_eq!(found("redis://u:p%40s@h:7/3"), Some("p%40s"));
        assert_eq!(found("redis+sentinel://:a:b@h,i/m"), Some("a:b"));
        for none in ["redis://h:7", "redis://u@h:7", "redis://u:@h", "redis://h/a:b@c", "h", ""] {
            assert_eq!(found(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(redis(s)?(\\+[a-z]{0,8})?://)?.{0,40}") {
            let _ = RedisUrl::parse(&text);
            if let Some(range) = password_range(&text) {
                prop_assert!(!text[range].is_empty());
            }
        }
    }
}
