//! Connects to Redis: name, judged address, TCP, TLS, AUTH; through Sentinels to their master.
//!
//! Done here and not by the client library, because every address must be judged before it is connected to, and be
//! the very one that was judged: those a name stands for, and those that Sentinels and cluster nodes name.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, cmd};
use reveille_shared::Context;
use reveille_shared::model::redis_url::{RedisUrl, Topology};
use reveille_shared::model::run::{Outcome, OutcomeCode};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::failure_of;
use crate::dispatch::target::{AddressRefused, TargetPolicy, permitted_addresses};
use crate::dispatch::tls::Trust;

/// Makes connections.
pub(super) struct Dialler {
    context: Context,
    targets: TargetPolicy,
    trust: Trust,
}

impl Dialler {
    pub(super) fn new(context: &Context, targets: TargetPolicy) -> Self {
        Self { context: context.clone(), targets, trust: Trust::new() }
    }

    /// A connection to the server that a URL means.
    ///
    /// # Errors
    /// Why there is none, as an outcome.
    pub(super) async fn dial(&self, url: &RedisUrl, ca_file: Option<&Path>) -> Result<MultiplexedConnection, Outcome> {
        match &url.topology {
            Topology::Sentinel { master } => {
                let (node, ca) = (self.master(url, master, ca_file).await?, ca_file);
                self.dial_node(url, &node, ca, Login::OfServer).await
            }
            Topology::Single | Topology::Cluster => self.dial_any(url, ca_file, Login::OfServer).await,
        }
    }

    /// Where the Sentinels say that the master is.
    async fn master(&self, url: &RedisUrl, name: &str, ca_file: Option<&Path>) -> Result<(String, u16), Outcome> {
        let mut sentinel = self.dial_any(url, ca_file, Login::None).await?;
        let answer: Result<Option<(String, u16)>, RedisError> =
            cmd("SENTINEL").arg("get-master-addr-by-name").arg(name).query_async(&mut sentinel).await;
        match answer {
            Ok(Some(node)) => Ok(node),
            Ok(None) => Err(no_connection("the sentinels know no master of this name")),
            Err(error) => Err(Outcome { code: OutcomeCode::Connect, ..failure_of(&error) }),
        }
    }

    /// A connection to the first node that answers.
    async fn dial_any(
        &self,
        url: &RedisUrl,
        ca_file: Option<&Path>,
        login: Login,
    ) -> Result<MultiplexedConnection, Outcome> {
        let mut failure = None;
        for node in &url.nodes {
            match self.dial_node(url, node, ca_file, login).await {
                Ok(connection) => return Ok(connection),
                Err(outcome) => failure = Some(outcome),
            }
        }
        Err(failure.unwrap_or_else(|| no_connection("the URL names no node")))
    }

    async fn dial_node(
        &self,
        url: &RedisUrl,
        (host, port): &(String, u16),
        ca_file: Option<&Path>,
        login: Login,
    ) -> Result<MultiplexedConnection, Outcome> {
        let addresses = permitted_addresses(&self.targets, host, *port).await.map_err(|error| match error {
            Ok(AddressRefused) => Outcome::new(OutcomeCode::Refused, AddressRefused.to_string()),
            Err(_) => Outcome::new(OutcomeCode::Connect, "the target's name could not be resolved"),
        })?;
        let stream = connect_any(&addresses).await.map_err(|error| no_connection(&error.kind().to_string()))?;
        let mut info = RedisConnectionInfo::default();
        if let Login::OfServer = login {
            info = info.set_db(url.database);
            if let Some(username) = &url.username {
                info = info.set_username(username);
            }
            if let Some(password) = &url.password {
                info = info.set_password(password);
            }
        }
        if !url.tls {
            return self.greet(&info, stream).await;
        }
        let config = self.trust.client(ca_file).map_err(|error| no_connection(&error))?;
        let name = ServerName::try_from(host.clone()).map_err(|_| no_connection("the host is no name for TLS"))?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
            let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            no_connection(&cause.map_or_else(|| error.kind().to_string(), ToString::to_string))
        })?;
        self.greet(&info, stream).await
    }

    async fn greet<S>(&self, info: &RedisConnectionInfo, stream: S) -> Result<MultiplexedConnection, Outcome>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // The attempt has a deadline of its own.
        let settings = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(info, stream, settings).await;
        let (connection, driver) = made.map_err(|error| match failure_of(&error) {
            broken if broken.code == OutcomeCode::Transport => no_connection("the server did not greet"),
            rejected => rejected,
        })?;
        let closing = self.context.lifecycle.closing().clone();
        self.context.lifecycle.spawn_attendant("redis target", async move {
            tokio::select! {
                () = driver => {} // nobody holds the connection any more, or it broke
                () = closing.cancelled() => {}
            }
        });
        Ok(connection)
    }
}

/// With whose credentials a connection begins.
#[derive(Clone, Copy)]
enum Login {
    /// Sentinels are asked without: the URL's credentials are those of the servers.
    None,
    OfServer,
}

async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addresses).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn no_connection(cause: &str) -> Outcome {
    Outcome::new(OutcomeCode::Connect, format!("no connection to the target: {cause}"))
}
