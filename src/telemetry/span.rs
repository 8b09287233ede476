//! A span of the engine as plain data, built from facts: its ids are derived, so that a repeat after a
//! crash is the same span, and its times are the journal's.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Link, SpanContext, SpanId as OtelSpanId, Status, TraceFlags, TraceId as OtelTraceId};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::trace_context::{SpanId, TraceContext};

/// One finished span. What is not sampled is not recorded.
#[derive(Debug, Clone)]
pub struct EngineSpan<'a> {
    /// Trace id, span id, whether it is sampled.
    pub context: TraceContext,
    pub parent: Option<SpanId>,
    /// The parent is another process's span.
    pub parent_is_remote: bool,
    pub name: Cow<'a, str>,
    pub kind: SpanKind,
    /// Microseconds since 1970.
    pub start_us: u64,
    pub end_us: u64,
    /// Names from [`super::names`].
    pub attributes: Vec<(&'static str, AttrValue<'a>)>,
    pub status: SpanStatus<'a>,
    pub links: Vec<TraceContext>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    Internal,
    Client,
    Server,
    Producer,
    Consumer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanStatus<'a> {
    /// Neither good nor bad: the convention for what went as it should.
    Unset,
    Ok,
    /// One line for people.
    Error(Cow<'a, str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttrValue<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Bool(bool),
}

impl<'a> From<&'a str> for AttrValue<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}
impl From<String> for AttrValue<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}
impl From<u32> for AttrValue<'_> {
    fn from(number: u32) -> Self {
        Self::Int(i64::from(number))
    }
}
impl From<u16> for AttrValue<'_> {
    fn from(number: u16) -> Self {
        Self::Int(i64::from(number))
    }
}
impl From<bool> for AttrValue<'_> {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<&AttrValue<'_>> for Value {
    fn from(value: &AttrValue<'_>) -> Self {
        match value {
            AttrValue::Text(text) => text.clone().into_owned().into(),
            AttrValue::Int(number) => (*number).into(),
            AttrValue::Bool(flag) => (*flag).into(),
        }
    }
}

impl EngineSpan<'_> {
    /// Returns the span in OpenTelemetry's own terms, which can wait in a queue.
    pub(super) fn to_data(&self) -> SpanData {
        let mut links = SpanLinks::default();
        links.links = self.links.iter().map(|link| Link::with_context(span_context(link, true))).collect();
        SpanData {
            span_context: span_context(&self.context, false),
            parent_span_id: self.parent.map_or(OtelSpanId::INVALID, |parent| OtelSpanId::from_bytes(parent.0)),
            parent_span_is_remote: self.parent_is_remote,
            span_kind: match self.kind {
                SpanKind::Internal => opentelemetry::trace::SpanKind::Internal,
                SpanKind::Client => opentelemetry::trace::SpanKind::Client,
                SpanKind::Server => opentelemetry::trace::SpanKind::Server,
                SpanKind::Producer => opentelemetry::trace::SpanKind::Producer,
                SpanKind::Consumer => opentelemetry::trace::SpanKind::Consumer,
            },
            name: Cow::Owned(self.name.clone().into_owned()),
            start_time: moment(self.start_us),
            // A clock set back between the two must not give a span that ends before it begins.
            end_time: moment(self.end_us.max(self.start_us)),
            attributes: self.attributes.iter().map(|(name, value)| KeyValue::new(*name, value)).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: match &self.status {
                SpanStatus::Unset => Status::Unset,
                SpanStatus::Ok => Status::Ok,
                SpanStatus::Error(words) => Status::error(words.clone().into_owned()),
            },
            instrumentation_scope: scope(),
        }
    }
}

/// Who makes the spans, of both ways.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("backstitch").with_version(env!("CARGO_PKG_VERSION")).build()
}

fn moment(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

fn span_context(context: &TraceContext, is_remote: bool) -> SpanContext {
    let flags = TraceFlags::new(u8::from(context.sampled) | u8::from(context.random) << 1);
    // A state that OpenTelemetry does not take is not shown; services get it as it came all the same.
    let state = context.tracestate.as_deref().and_then(|state| state.parse().ok()).unwrap_or_default();
    SpanContext::new(
        OtelTraceId::from_bytes(context.trace_id.0),
        OtelSpanId::from_bytes(context.span_id.0),
        flags,
        is_remote,
        state,
    )
}
