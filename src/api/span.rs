//! The server span of a request that starts something: it continues the caller's trace, and the run or
//! event continues from it.

use http::{HeaderMap, StatusCode};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::cloud_event;
use super::problem::ApiError;
use crate::trace_context::TraceContext;

/// One request's span and the trace as what it starts must see it.
pub struct RequestSpan {
    pub span: Span,
    /// Our span in the caller's trace; the caller's own where spans are not recorded; none without either.
    pub trace: Option<TraceContext>,
}

impl RequestSpan {
    /// Opens a span for a route: `POST /api/v1/events/{type}`.
    pub fn open(route: &'static str, headers: &HeaderMap) -> Self {
        Self::continuing(route, cloud_event::trace(headers))
    }

    /// Opens a span in a caller's trace, if there is one.
    pub fn continuing(route: &'static str, caller: Option<TraceContext>) -> Self {
        let (method, path) = route.split_once(' ').unwrap_or(("", route));
        let span = tracing::info_span!(
            "api.request",
            otel.name = route,
            otel.kind = "server",
            http.request.method = method,
            http.route = path,
            http.response.status_code = field::Empty,
            otel.status_code = field::Empty,
            saga.run = field::Empty,
            correlation.id = field::Empty,
        );
        if let Some(parent) = caller.as_ref().and_then(remote_context) {
            // Fails only for a span that is not recorded; then the caller's own context is passed on.
            let _ = span.set_parent(parent);
        }
        let trace = own_context(&span).map(|own| TraceContext {
            tracestate: caller.as_ref().and_then(|caller| caller.tracestate.clone()),
            ..own
        });
        Self { span, trace: trace.or(caller) }
    }
}

impl RequestSpan {
    /// Notes the answer; a failure of ours marks the span (a client's mistake does not, as OpenTelemetry has it).
    pub fn answered(&self, result: Result<StatusCode, &ApiError>) {
        let status = result.unwrap_or_else(ApiError::status);
        self.span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

fn remote_context(caller: &TraceContext) -> Option<Context> {
    let state = caller.tracestate.as_deref().and_then(|text| text.parse::<TraceState>().ok()).unwrap_or_default();
    let flags = if caller.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let context = SpanContext::new(
        TraceId::from_bytes(caller.trace_id.0),
        SpanId::from_bytes(caller.span_id.0),
        flags,
        true,
        state,
    );
    context.is_valid().then(|| Context::new().with_remote_span_context(context))
}

fn own_context(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let own = context.span().span_context().clone();
    // A span that no layer records gives back nothing valid, or its remote parent.
    (own.is_valid() && !own.is_remote()).then(|| TraceContext {
        trace_id: crate::trace_context::TraceId(own.trace_id().to_bytes()),
        span_id: crate::trace_context::SpanId(own.span_id().to_bytes()),
        sampled: own.is_sampled(),
        tracestate: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TracerProvider;
    use tracing_subscriber::prelude::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers() -> HeaderMap {
        [("traceparent", PARENT), ("tracestate", "a=1")]
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_callers_trace_goes_through_our_span() {
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let trace = RequestSpan::open("POST /api/v1/events/{type}", &headers()).trace.unwrap();
            assert_eq!(trace.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
            assert_ne!(trace.span_id.to_string(), "00f067aa0ba902b7", "our own span stands between");
            assert_eq!(trace.tracestate.as_deref(), Some("a=1"));
            let new = RequestSpan::open("POST /api/v1/events/{type}", &HeaderMap::new()).trace.unwrap();
            assert_ne!(new.trace_id, trace.trace_id, "without a caller a trace begins here");
        });
    }

    #[test]
    fn without_recording_the_callers_context_is_passed_on() {
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            let trace = RequestSpan::open("POST /api/v1/events/{type}", &headers()).trace.unwrap();
            assert_eq!(trace.traceparent(), PARENT);
            assert!(RequestSpan::open("POST /api/v1/events/{type}", &HeaderMap::new()).trace.is_none());
        });
    }
}
