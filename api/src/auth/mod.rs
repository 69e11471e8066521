//! Who asks: credentials, what their holder may do, and whose schedules he may see.
//!
//! Invariant: a credential that is sent is verified, also where none is needed; and nothing about a secret is kept,
//! logged or compared but its digest.

mod gate;
pub mod key;

use reveille_shared::model::access::Scope;
use uuid::Uuid;

pub use self::gate::{Access, Gate};
use crate::error::Problem;

/// A caller of the API, as its credentials say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What he may do.
    pub scope: Scope,
    /// The application he is limited to; `None`: all.
    pub application: Option<String>,
    /// The key he showed.
    pub key: Option<Uuid>,
}

impl Caller {
    /// Whoever operates the service: may do everything.
    pub fn operator() -> Self {
        Self { scope: Scope::Admin, application: None, key: None }
    }

    /// # Errors
    /// 403 when his scope does not reach as far as `needed`.
    pub(crate) fn needs(&self, needed: Scope) -> Result<(), Problem> {
        if self.scope >= needed {
            return Ok(());
        }
        Err(Problem::forbidden(
            "insufficient_scope",
            format!("this needs a key with the scope `{}`, yours has `{}`", needed.as_str(), self.scope.as_str()),
        ))
    }

    /// Whether what belongs to this application is there for him.
    pub(crate) fn sees(&self, application: &str) -> bool {
        self.application.as_deref().is_none_or(|own| own == application)
    }

    /// # Errors
    /// 403 when he may not have schedules of this application.
    pub(crate) fn owns(&self, application: &str) -> Result<(), Problem> {
        match &self.application {
            Some(own) if own != application => {
                let detail = format!("your key is limited to the application `{own}`");
                Err(Problem::forbidden("wrong_application", detail).at("/client/application"))
            }
            _ => Ok(()),
        }
    }
}
