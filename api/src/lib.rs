//! The API: registers, shows and cancels schedules over REST.

use reveille_shared::runtime::Context;

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Zone of a document that names none.
    pub default_timezone: String,
}

/// All routes of the API. The caller owns the listener.
pub fn router(_context: Context, _settings: Settings) -> axum::Router {
    axum::Router::new()
}
