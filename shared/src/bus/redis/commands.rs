//! The connection for commands: dialled when a command needs it, forgotten when anything fails on it.
//!
//! Never retries in the background and never hangs a caller: who wants to try again decides when. (The
//! crate's `ConnectionManager` lets commands wait while it redials, without a limit, and by default stops
//! redialling for good after about 6 s.)
//!
//! Every command sent here may be executed twice, so one that met a dead connection is sent again.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisError, RedisResult, ScriptInvocation};
use tokio::sync::Mutex;

use super::patience::{DIAL_LIMIT, REPLY_LIMIT, within};
use super::servers::Servers;
use crate::bus::BusError;

/// For a command with all it needs, also the wait for another caller who dials.
const CALL_LIMIT: Duration = Duration::from_secs(3);

pub(super) struct Commands {
    servers: Arc<Servers>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    connection: Option<MultiplexedConnection>,
    /// Which connection this is: the error of an older one does not end a newer.
    generation: u64,
}

/// What can be asked.
pub(super) enum Request<'a> {
    Command(&'a Cmd),
    Script(&'a ScriptInvocation<'a>),
}

impl Commands {
    pub(super) fn new(servers: Arc<Servers>) -> Self {
        Self { servers, held: Mutex::new(Held::default()) }
    }

    /// Sends a request that may be executed twice, and waits for its answer, 3 s at most.
    pub(super) async fn ask<T: FromRedisValue>(&self, request: &Request<'_>) -> Result<T, BusError> {
        within(CALL_LIMIT, self.ask_twice(request)).await.map_err(BusError::Unavailable)
    }

    async fn ask_twice<T: FromRedisValue>(&self, request: &Request<'_>) -> RedisResult<T> {
        match self.ask_once(request).await {
            // A restarted Redis, a fail-over and a resharding show first as an error on the connection to the old server.
            Err(Failed { error, reused: true }) if is_elsewhere(&error) => self.ask_once(request).await,
            outcome => outcome,
        }
        .map_err(|failed| failed.error)
    }

    async fn ask_once<T: FromRedisValue>(&self, request: &Request<'_>) -> Result<T, Failed> {
        let (mut connection, generation, reused) =
            self.connection().await.map_err(|error| Failed { error, reused: false })?;
        let answer = match request {
            Request::Command(command) => command.query_async(&mut connection).await,
            Request::Script(script) => script.invoke_async(&mut connection).await,
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => {
                // Whatever it is: after a failover the same socket may answer READONLY for ever.
                self.forget(generation).await;
                Err(Failed { error, reused })
            }
        }
    }

    async fn connection(&self) -> RedisResult<(MultiplexedConnection, u64, bool)> {
        let mut held = self.held.lock().await;
        if let Some(connection) = &held.connection {
            return Ok((connection.clone(), held.generation, true));
        }
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(DIAL_LIMIT))
            .set_response_timeout(Some(REPLY_LIMIT));
        let client = self.servers.find().await?.client;
        let connection = client.get_multiplexed_async_connection_with_config(&settings).await?;
        held.connection = Some(connection.clone());
        held.generation += 1;
        Ok((connection, held.generation, false))
    }

    async fn forget(&self, generation: u64) {
        let mut held = self.held.lock().await;
        if held.generation == generation {
            held.connection = None;
        }
    }
}

fn is_elsewhere(error: &RedisError) -> bool {
    error.is_connection_dropped() || error.redirect_node().is_some() || error.code() == Some("READONLY")
}

struct Failed {
    error: RedisError,
    /// Whether the connection had served before.
    reused: bool,
}
