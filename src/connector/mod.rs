//! Calls to services. A connector sends one attempt and says what it did to the world by the protocol's
//! own rules; whether to try again is the core's business.

mod address;
mod failure;
pub mod http;
pub mod nats;
mod permission;
mod services;

pub use services::Services;

use std::time::Duration;

use futures_util::future::BoxFuture;

use self::failure::{Failure, failed};
use crate::id::ServiceName;
use crate::request::{Attempt, Direction, Request};
use crate::resilience::CircuitState;
use crate::trace_context::TraceContext;

/// One attempt to send.
#[derive(Debug, Clone)]
pub struct Call {
    pub request: Request,
    pub timeout: Duration,
    /// Headers that every call carries (DESIGN §5).
    pub headers: CallHeaders,
}

#[derive(Debug, Clone)]
pub struct CallHeaders {
    /// `Idempotency-Key`, unless the step puts its key elsewhere.
    pub idempotency_key: Option<String>,
    /// `traceparent` and `tracestate`: the attempt's own span.
    pub trace: TraceContext,
    pub correlation_id: String,
    pub run: String,
    /// The step's path.
    pub step: String,
    pub direction: Direction,
    /// `Saga-Forward-Key`, on compensating calls.
    pub forward_key: Option<String>,
}

/// Sends calls to the services of the configuration.
pub trait Connector: Send + Sync + 'static {
    /// Sends one attempt. Never fails: whatever happens is an [`Attempt`].
    fn call(&self, call: Call) -> BoxFuture<'static, Attempt>;
}

/// How long a call may wait for an open circuit, a rate limit or a socket before it is given back
/// unsent. It waits in memory only, so longer would do no harm but to delay a cancel.
const PERMISSION_WAIT_MAX: Duration = Duration::from_secs(300);

/// Why a service cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("service `{service}`: {reason}")]
    Service { service: ServiceName, reason: String },
}

/// What is going on with one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    pub service: ServiceName,
    pub in_flight: u32,
    /// Calls at once, at most.
    pub limit: u32,
    /// Calls waiting for the circuit, the rate limit or a socket.
    pub waiting: u64,
    /// Milliseconds that calls have waited so far.
    pub waited_ms: u64,
    pub idle_sockets: usize,
    /// None where the service has no circuit breaker.
    pub circuit: Option<CircuitState>,
}

fn unconfigured(service: &ServiceName) -> Attempt {
    let reason = format!("service `{service}` is not in the configuration; add it under `services:`");
    failed(Failure::Unconfigured, &reason)
}
