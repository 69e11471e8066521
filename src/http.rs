//! Listening and serving: bind early, serve until the lifecycle says otherwise.

use std::error::Error;
use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use reveille_shared::runtime::lifecycle::Lifecycle;
use tokio::net::TcpListener;

/// A bound address that nobody serves yet.
pub(crate) struct Bound {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

/// Binds `address`, whose port may be 0.
///
/// # Errors
/// A sentence that names the flag.
pub(crate) async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<Bound> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {flag} {address}"))?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// Serves until the process stops; requests under way are answered, unless it aborts.
    pub(crate) fn serve(self, lifecycle: &Lifecycle, router: Router) {
        let (stopping, aborting) = (lifecycle.stopping().clone(), lifecycle.aborting().clone());
        lifecycle.spawn("http", async move {
            let server = axum::serve(self.listener, router).with_graceful_shutdown(stopping.cancelled_owned());
            tokio::select! {
                () = aborting.cancelled() => {}
                outcome = server => log_end(outcome),
            }
        });
    }

    /// Serves until everything else has ended, so that a process can be watched while it drains.
    pub(crate) fn serve_to_the_end(self, lifecycle: &Lifecycle, router: Router) {
        let closing = lifecycle.closing().clone();
        lifecycle.spawn_attendant("ops http", async move {
            tokio::select! {
                () = closing.cancelled() => {}
                outcome = axum::serve(self.listener, router) => log_end(outcome),
            }
        });
    }
}

fn log_end(outcome: std::io::Result<()>) {
    if let Err(error) = outcome {
        tracing::error!(error = &error as &dyn Error, "the http server ended");
    }
}
