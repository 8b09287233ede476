//! The trace that a run is in. A run that rests for days goes on in a trace of its own, linked to the one
//! before: a trace that nobody can load is no use. Worked out from facts, so that it is the same after a crash.

use super::fact::RunStarted;
use crate::time::Timestamp;
use crate::trace_context::{SpanId, TraceContext, TraceId};

/// One of a run's traces, the latest.
#[derive(Debug, Clone)]
pub struct TracePart {
    /// The trace, and the span that the others in it hang from.
    pub context: TraceContext,
    /// From 1.
    pub number: u32,
    /// The sequence number of its first fact.
    pub since: u64,
    /// The part before, that the first span links to.
    pub before: Option<TraceContext>,
    /// The time of the last fact.
    last_at: Timestamp,
}

impl TracePart {
    /// Returns the part that a run begins in: the caller's trace.
    #[must_use]
    pub const fn first(context: TraceContext, at: Timestamp) -> Self {
        Self { context, number: 1, since: 0, before: None, last_at: at }
    }

    /// Notes that a fact happened. True if nothing had for so long that the next part is due; it begins
    /// unless a call is in flight, whose service was told this trace.
    pub fn moved(&mut self, begun: &RunStarted, at: Timestamp) -> bool {
        let silence = at.since(std::mem::replace(&mut self.last_at, at));
        begun.link_after.is_some_and(|after| silence > after)
    }

    /// Begins the next part with the fact of that number.
    pub fn go_on(&mut self, begun: &RunStarted, sequence: u64) {
        self.number += 1;
        self.since = sequence;
        let next = part(begun, self.number);
        self.before = Some(std::mem::replace(&mut self.context, next));
    }
}

/// Returns one of a run's traces by its number.
#[must_use]
pub fn part(begun: &RunStarted, number: u32) -> TraceContext {
    if number <= 1 {
        return begun.trace.clone();
    }
    let (run, number) = (begun.run.0, number.to_le_bytes());
    TraceContext {
        // Its end is as random as the run's id and the hash over it.
        trace_id: TraceId::derived(&[run.as_bytes(), b"trace", &number]),
        span_id: SpanId::derived(&[run.as_bytes(), b"goes on", &number]),
        ..begun.trace.clone()
    }
}
