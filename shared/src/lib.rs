//! Everything two or more roles need: the model (pure), the store (the only truth), the bus (hints)
//! and the runtime (clock, lifecycle, configuration, telemetry).
//!
//! Never imports a role crate, an HTTP framework or a message-broker client.

pub mod bus;
pub mod model;
pub mod runtime;
pub mod store;
