//! Everything two or more roles need, in layers: the model (pure), the runtime (clock, lifecycle, telemetry), the store (the
//! only truth), the bus (hints), and the [`Context`] that puts them together. Each knows those before it alone.
//!
//! Never imports a role crate, an HTTP framework or a message-broker client.

pub mod bus;
mod context;
pub mod model;
pub mod runtime;
pub mod store;

pub use self::context::Context;
