//! The API: registers, shows and cancels schedules over REST.
//!
//! Layers, outermost first: [`http`] maps requests and answers, [`service`] does what they ask for
//! (and is what any other surface calls), the store and the bus are handed in. Nothing here decides
//! when something is due, and nothing here answers 5xx for bad input.

pub mod auth;
mod commit;
mod error;
mod graphql;
mod http;
mod limits;
mod metrics;
mod registrar;
mod secret;
mod service;
mod surface;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use reveille_shared::Context;
use reveille_shared::model::document::Defaults;
use reveille_shared::model::task::TaskKind;
use reveille_shared::runtime::seal::Sealer;

pub use self::auth::{Access, Caller};
pub use self::error::{Problem, problem_response};
pub use self::limits::Limits;
pub use self::service::Service;

/// The GraphQL schema as text, as it is checked in.
pub fn graphql_sdl() -> String {
    graphql::sdl()
}

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Zone of a document that names none.
    pub default_timezone: String,
    /// Targets this deployment's workers can call.
    pub targets: Vec<TaskKind>,
    /// Connections of the server's configuration that documents may name, by name.
    pub connections: BTreeMap<String, TaskKind>,
    /// Who is let in.
    pub access: Access,
    /// What one application may take.
    pub limits: Limits,
    /// Seals the secrets of documents before they are stored.
    pub sealer: Sealer,
    /// Longest time from a request's head to its answer.
    pub request_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_timezone: "UTC".to_owned(),
            targets: vec![TaskKind::Rest, TaskKind::Redis],
            connections: BTreeMap::new(),
            access: Access::default(),
            limits: Limits::default(),
            sealer: Sealer::default(),
            request_timeout: Duration::from_secs(30),
        }
    }
}

impl Settings {
    fn defaults(&self) -> Defaults {
        Defaults {
            timezone: self.default_timezone.clone(),
            targets: self.targets.clone(),
            connections: self.connections.clone(),
        }
    }
}

/// The documentation: `/openapi.json` and `/docs`. Holds no data of users, so it stands where nobody is asked for a
/// token.
pub fn documentation() -> axum::Router {
    http::documentation()
}

/// The OpenAPI description of all routes, as `/openapi.json` answers it.
///
/// # Errors
/// Never in practice: it is a value without a key that is no string.
pub fn openapi_json() -> serde_json::Result<String> {
    http::openapi_json()
}

/// All routes of the API. The caller owns the listener.
pub fn router(context: Context, settings: Settings) -> axum::Router {
    http::router(context, settings)
}
