//! A span of the engine as plain data, built from facts: its ids are derived, so that a repeat after a
//! crash is the same span, and its times are the journal's.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Link, SpanContext, SpanId as OtelSpanId, TraceFlags, TraceId as OtelTraceId};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::trace_context::{SpanId, TraceContext};

/// One finished span. What is not sampled is not recorded.
#[derive(Debug, Clone)]
pub struct EngineSpan {
    /// Trace id, span id, whether it is sampled.
    pub context: TraceContext,
    pub parent: Option<SpanId>,
    /// The parent is another process's span.
    pub parent_is_remote: bool,
    pub name: Cow<'static, str>,
    pub kind: SpanKind,
    /// Microseconds since 1970.
    pub start_us: u64,
    pub end_us: u64,
    /// Names from [`super::names`].
    pub attributes: Vec<(&'static str, AttrValue)>,
    pub status: SpanStatus,
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
pub enum SpanStatus {
    /// Neither good nor bad: the convention for what went as it should.
    Unset,
    Ok,
    /// One line for people.
    Error(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttrValue {
    Static(&'static str),
    Text(String),
    Shared(Arc<str>),
    Int(i64),
    Bool(bool),
}

impl From<&'static str> for AttrValue {
    fn from(text: &'static str) -> Self {
        Self::Static(text)
    }
}
impl From<String> for AttrValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<Arc<str>> for AttrValue {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}
impl From<u32> for AttrValue {
    fn from(number: u32) -> Self {
        Self::Int(i64::from(number))
    }
}
impl From<u16> for AttrValue {
    fn from(number: u16) -> Self {
        Self::Int(i64::from(number))
    }
}
impl From<bool> for AttrValue {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<AttrValue> for Value {
    fn from(value: AttrValue) -> Self {
        match value {
            AttrValue::Static(text) => text.into(),
            AttrValue::Text(text) => text.into(),
            AttrValue::Shared(text) => text.into(),
            AttrValue::Int(number) => number.into(),
            AttrValue::Bool(flag) => flag.into(),
        }
    }
}

impl EngineSpan {
    pub(super) fn into_data(self, scope: &InstrumentationScope) -> SpanData {
        let links = self.links.iter().map(|link| Link::with_context(span_context(link, true))).collect();
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
            name: self.name,
            start_time: moment(self.start_us),
            // A clock set back between the two must not give a span that ends before it begins.
            end_time: moment(self.end_us.max(self.start_us)),
            attributes: self.attributes.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: {
                let mut all = SpanLinks::default();
                all.links = links;
                all
            },
            status: match self.status {
                SpanStatus::Unset => opentelemetry::trace::Status::Unset,
                SpanStatus::Ok => opentelemetry::trace::Status::Ok,
                SpanStatus::Error(words) => opentelemetry::trace::Status::error(words),
            },
            instrumentation_scope: scope.clone(),
        }
    }
}

fn moment(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

fn span_context(context: &TraceContext, is_remote: bool) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let state = context.tracestate.as_deref().and_then(|state| state.parse().ok()).unwrap_or_default();
    SpanContext::new(
        OtelTraceId::from_bytes(context.trace_id.0),
        OtelSpanId::from_bytes(context.span_id.0),
        flags,
        is_remote,
        state,
    )
}
