//! What both surfaces, REST and GraphQL, read requests with: who asks, the body, pages, filters and lists. Knows neither
//! routes nor schemas.

pub(crate) mod listing;
pub(crate) mod query;
pub(crate) mod request;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use reveille_shared::model::traceparent::TraceParent;

use crate::Service;
use crate::auth::Caller;
use crate::error::Problem;

/// The service, acting for the caller of a request.
pub(crate) struct Acting(pub(crate) Service);

impl<S> FromRequestParts<S> for Acting
where
    S: Send + Sync,
    Service: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().cloned().ok_or_else(|| Problem::unauthorized("nobody asked"))?;
        let service = Service::from_ref(state).acting_for(caller);
        Ok(Self(service.traced(parts.extensions.get::<TraceParent>().copied())))
    }
}
