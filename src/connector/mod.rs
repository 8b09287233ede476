//! Calls to services. A connector sends one attempt and says what it did to the world by the protocol's
//! own rules; whether to try again is the core's business.

pub mod http;

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::request::{Attempt, Direction, Request};
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
