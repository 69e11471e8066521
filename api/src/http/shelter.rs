//! What no request may do to the others: take for ever, crowd them out, or bring the process down.
//!
//! Never looks at what is asked. Invariant: whatever a handler does, the caller gets an answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tokio::sync::Semaphore;

use crate::error::{Problem, internal};

/// Requests worked on at the same time; each may hold a body in memory. The others wait for their turn.
const IN_FLIGHT_MAX: usize = 1024;

/// A deletion of very many goes on for longer than another request may.
const DELETION_LIMIT: Duration = Duration::from_secs(600);

/// The limits all requests share. Cloning shares them.
#[derive(Clone)]
pub(super) struct Shelter {
    turns: Arc<Semaphore>,
    limit: Duration,
}

impl Shelter {
    pub(super) fn new(limit: Duration) -> Self {
        Self { turns: Arc::new(Semaphore::new(IN_FLIGHT_MAX)), limit }
    }
}

/// Answers in time and in spite of panics. What a request given up here has committed stays committed, and is
/// hinted (see `commit.rs`).
pub(super) async fn answer(State(shelter): State<Shelter>, request: Request, next: Next) -> Response {
    let limit = if request.method() == Method::DELETE { shelter.limit.max(DELETION_LIMIT) } else { shelter.limit };
    let in_turn = async {
        let _turn = shelter.turns.acquire().await;
        AssertUnwindSafe(next.run(request)).catch_unwind().await
    };
    match tokio::time::timeout(limit, in_turn).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => {
            // The panic hook has said where.
            tracing::error!("a request panicked");
            internal().into_response()
        }
        Err(_elapsed) => too_slow().into_response(),
    }
}

fn too_slow() -> Problem {
    let detail = "the request was given up; whether it took effect is unknown";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "the request took too long", detail)
}
