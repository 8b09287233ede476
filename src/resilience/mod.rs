//! Small machines that protect a service and ourselves: circuit breaker, rate limit, limit of calls in
//! flight. They take `now`, know nothing of sockets, live per process and are not replayed.

mod circuit;
mod gate;
mod rate;

pub use circuit::{Circuit, CircuitPolicy, CircuitState};
pub use gate::{Gate, Leave, Limits, Permit, Report};
pub use rate::{Bucket, RatePolicy};
