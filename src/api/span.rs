//! The server span of a request that starts something. It stands beside what it started: below the
//! caller's span, or, without a caller, below what it started. So nothing that lasts hangs from a span
//! that a SIGKILL can take with it before it is exported.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode};
use tracing::{Span, field};

use super::cloud_event;
use super::problem::ApiError;
use crate::telemetry::{EngineSpan, SpanKind, SpanSink, SpanStatus, names};
use crate::trace_context::{SpanId, TraceContext};

/// One request on its way.
pub struct RequestSpan {
    /// For log lines.
    pub log: Span,
    sink: SpanSink,
    route: &'static str,
    began_us: u64,
    /// The caller's span; none began the trace here.
    caller: Option<TraceContext>,
    /// The trace, at the caller's span or at none.
    trace: TraceContext,
}

/// What a request has started: the spans' attributes and where the request's own span stands.
#[derive(Debug, Default)]
pub struct Began {
    /// The first span of what was started, for a request without a caller.
    pub first: Option<TraceContext>,
    pub run: Option<String>,
    pub correlation_id: Option<String>,
}

impl RequestSpan {
    /// Begins with a route: `POST /api/v1/events/{type}`.
    pub fn open(sink: SpanSink, route: &'static str, headers: &HeaderMap) -> Self {
        Self::continuing(sink, route, cloud_event::trace(headers))
    }

    /// Begins in a caller's trace, if there is one.
    pub fn continuing(sink: SpanSink, route: &'static str, caller: Option<TraceContext>) -> Self {
        let trace = caller.clone().unwrap_or_else(|| sink.new_trace().without_span());
        let log = tracing::info_span!("request", route, trace_id = %trace.trace_id, run = field::Empty);
        Self { log, sink, route, began_us: now_us(), caller, trace }
    }

    /// Returns the trace for what the request starts: at the caller's span, or at none.
    pub fn trace(&self) -> TraceContext {
        self.trace.clone()
    }

    /// Records the span with the answer; a failure of ours marks it (a client's mistake does not, as
    /// OpenTelemetry has it).
    pub fn answered(&self, result: Result<StatusCode, &ApiError>, began: &Began) {
        let status = result.unwrap_or_else(ApiError::status);
        let (method, path) = self.route.split_once(' ').unwrap_or(("", self.route));
        let mut attributes = vec![
            (names::HTTP_REQUEST_METHOD, method.into()),
            (names::HTTP_ROUTE, path.into()),
            (names::HTTP_RESPONSE_STATUS_CODE, status.as_u16().into()),
        ];
        let more = [(names::SAGA_RUN, &began.run), (names::CORRELATION_ID, &began.correlation_id)];
        attributes.extend(more.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?.into()))));
        let failed = status.is_server_error();
        if failed {
            attributes.push((names::ERROR_TYPE, status.as_u16().to_string().into()));
        }
        let first = began.first.as_ref().filter(|first| first.trace_id == self.trace.trace_id);
        self.sink.record(&EngineSpan {
            context: self.trace.with_span(SpanId::derived(&[uuid::Uuid::now_v7().as_bytes()])),
            parent: self.caller.as_ref().or(first).map(|above| above.span_id),
            parent_is_remote: self.caller.is_some(),
            name: self.route.into(),
            kind: SpanKind::Server,
            start_us: self.began_us,
            end_us: now_us(),
            attributes,
            status: if failed { SpanStatus::Error(status.to_string().into()) } else { SpanStatus::Unset },
            links: Vec::new(),
        });
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_callers_trace_goes_on() {
        let headers: HeaderMap = [("traceparent", PARENT), ("tracestate", "a=1")]
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let trace = RequestSpan::open(SpanSink::off(), "POST /api/v1/events/{type}", &headers).trace();
        assert_eq!((trace.traceparent().as_str(), trace.tracestate.as_deref()), (PARENT, Some("a=1")));
        let new = RequestSpan::open(SpanSink::off(), "POST /api/v1/events/{type}", &HeaderMap::new()).trace();
        assert!(new.trace_id != trace.trace_id && !new.has_span(), "without a caller a trace begins here");
    }
}
