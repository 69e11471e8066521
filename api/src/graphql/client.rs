//! Who registered a schedule.

use async_graphql::SimpleObject;
use serde::Deserialize;

/// Who registered a schedule: all five equal is the same schedule.
#[derive(Clone, Debug, Default, Deserialize, SimpleObject)]
#[serde(default)]
pub(super) struct Client {
    /// Operation of the calling application.
    operation: String,
    /// The application that registered it.
    application: String,
    /// Group it belongs to.
    group: String,
    /// The caller's own key.
    key: String,
    /// Type of caller.
    #[serde(rename = "type")]
    #[graphql(name = "type")]
    kind: String,
}

impl From<reveille_shared::model::schedule::ClientKey> for Client {
    fn from(key: reveille_shared::model::schedule::ClientKey) -> Self {
        Self { operation: key.operation, application: key.application, group: key.group, key: key.key, kind: key.kind }
    }
}
