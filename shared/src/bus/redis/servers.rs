//! Which server holds the wake state: the one that is named, the master that Sentinels know, or the node of a cluster that
//! has its slot. Asked anew for every connection, so a fail-over or a resharding is followed by whoever dials again.

use ::redis::{Client, Cmd, ErrorKind, IntoConnectionInfo, RedisError, RedisResult, TlsCertificates, Value, cmd};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::Mutex;

use super::patience::{DIAL_LIMIT, REPLY_LIMIT, within};
use crate::model::redis_url::{RedisUrl, Topology};

/// Host and port.
type Node = (String, u16);

/// Redirections that are followed, one after the other.
const REDIRECTS: usize = 3;

/// Where to dial.
pub(super) struct Servers {
    url: String,
    /// PEM of the authorities to trust in place of the system's.
    authorities: Option<Vec<u8>>,
    /// `None` for a server that is named.
    group: Option<Group>,
}

struct Group {
    url: RedisUrl,
    /// A key whose slot is that of all keys here.
    key: String,
    /// Who it was last.
    latest: Mutex<Option<Node>>,
}

/// A server to dial, and which it is where that may change.
pub(super) struct Server {
    pub(super) client: Client,
    node: Option<Node>,
}

impl Servers {
    /// What `url` means for `key`.
    ///
    /// # Errors
    /// When it is no URL of Redis, or the authorities are no PEM.
    pub(super) fn of(url: &str, authorities: Option<Vec<u8>>, key: &str) -> RedisResult<Self> {
        let is_group = url.starts_with("redis+") || url.starts_with("rediss+");
        let group = match is_group {
            false => None,
            true => {
                let bad = |detail| RedisError::from((ErrorKind::InvalidClientConfig, "the URL", detail));
                let url = RedisUrl::parse(url).map_err(bad)?;
                Some(Group { url, key: key.to_owned(), latest: Mutex::default() })
            }
        };
        let servers = Self { url: url.to_owned(), authorities, group };
        match &servers.group {
            Some(Group { url, .. }) => servers.client_of(&url.nodes[0], url, true)?,
            None => servers.open(&servers.url)?,
        };
        Ok(servers)
    }

    /// The server to dial.
    pub(super) async fn find(&self) -> RedisResult<Server> {
        let Some(group) = &self.group else {
            return Ok(Server { client: self.open(&self.url)?, node: None });
        };
        let node = match &group.url.topology {
            Topology::Sentinel { master } => self.master(&group.url, master).await?,
            Topology::Cluster | Topology::Single => self.owner(group).await?,
        };
        Ok(Server { client: self.client_of(&node, &group.url, true)?, node: Some(node) })
    }

    /// Whether a server that was found before is still the one. A subscription that hears nothing asks this: the old
    /// master may be there, and nobody tells it anything any more.
    pub(super) async fn is_current(&self, server: &Server) -> bool {
        match &server.node {
            None => true,
            // Nobody to ask: whoever is connected stays so.
            Some(node) => self.find().await.map_or(true, |found| found.node.as_ref() == Some(node)),
        }
    }

    /// Where the Sentinels say that the master is.
    async fn master(&self, url: &RedisUrl, name: &str) -> RedisResult<Node> {
        let mut failure = RedisError::from((ErrorKind::InvalidClientConfig, "the URL names no sentinel"));
        for node in &url.nodes {
            // Sentinels are asked without credentials: the URL's are those of the servers.
            let client = self.client_of(node, url, false)?;
            let answer = ask::<Option<Node>>(&client, cmd("SENTINEL").arg("get-master-addr-by-name").arg(name)).await;
            match answer {
                Ok(Some(master)) => return Ok(master),
                Ok(None) => {
                    failure =
                        RedisError::from((ErrorKind::InvalidClientConfig, "the sentinels know no master of this name"));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The node of the cluster that has the slot of the key: whoever does not have it says who does.
    async fn owner(&self, group: &Group) -> RedisResult<Node> {
        let latest = group.latest.lock().await.clone();
        let mut failure = RedisError::from((ErrorKind::InvalidClientConfig, "the URL names no node"));
        for first in latest.iter().chain(&group.url.nodes) {
            let mut node = first.clone();
            for _ in 0..REDIRECTS {
                let client = self.client_of(&node, &group.url, true)?;
                let error = match ask::<Value>(&client, cmd("EXISTS").arg(&group.key)).await {
                    Ok(_) => {
                        *group.latest.lock().await = Some(node.clone());
                        return Ok(node);
                    }
                    Err(error) => error,
                };
                let next = error.redirect_node().and_then(|(address, _slot)| {
                    let (host, port) = address.rsplit_once(':')?;
                    let host = if host.is_empty() { node.0.clone() } else { host.to_owned() };
                    Some((host, port.parse().ok()?))
                });
                failure = error;
                match next {
                    Some(next) => node = next,
                    None => break,
                }
            }
        }
        Err(failure)
    }

    fn client_of(&self, (host, port): &Node, url: &RedisUrl, with_credentials: bool) -> RedisResult<Client> {
        let scheme = if url.tls { "rediss" } else { "redis" };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let encoded = |text: &Option<String>| {
            utf8_percent_encode(text.as_deref().unwrap_or_default(), NON_ALPHANUMERIC).to_string()
        };
        let login = match with_credentials && (url.username.is_some() || url.password.is_some()) {
            true => format!("{}:{}@", encoded(&url.username), encoded(&url.password)),
            false => String::new(),
        };
        let database = if with_credentials { url.database } else { 0 };
        self.open(&format!("{scheme}://{login}{host}:{port}/{database}"))
    }

    fn open(&self, url: &str) -> RedisResult<Client> {
        match &self.authorities {
            Some(authorities) => {
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(authorities.clone()) };
                Client::build_with_tls(url.into_connection_info()?, certificates)
            }
            None => Client::open(url),
        }
    }
}

async fn ask<T: ::redis::FromRedisValue>(client: &Client, command: &Cmd) -> RedisResult<T> {
    let mut connection = within(DIAL_LIMIT, client.get_multiplexed_async_connection()).await?;
    within(REPLY_LIMIT, command.query_async(&mut connection)).await
}
