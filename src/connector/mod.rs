//! Calls to services. A connector sends one attempt and says what it did to the world by the protocol's
//! own rules; whether to try again is the core's business.

mod address;
mod failure;
pub mod grpc;
pub mod http;
pub mod nats;
mod permission;
mod route;
mod services;
mod sign_in;

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

impl CallHeaders {
    /// Returns them by the names that they have over every protocol. What others wrote may not be sendable.
    fn named(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("Idempotency-Key", self.idempotency_key.clone()),
            ("traceparent", Some(self.trace.traceparent())),
            ("tracestate", self.trace.tracestate.as_deref().map(str::to_owned)),
            ("baggage", self.trace.baggage.as_deref().map(str::to_owned)),
            ("Correlation-Id", Some(self.correlation_id.clone())),
            ("Saga-Run", Some(self.run.clone())),
            ("Saga-Step", Some(self.step.clone())),
            ("Saga-Direction", Some(self.direction.as_str().to_owned())),
            ("Saga-Forward-Key", self.forward_key.clone()),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
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
