//! A span of the engine as plain data, built from facts: its ids are derived, so that a repeat after a
//! crash is the same span, and its times are the journal's.

use std::borrow::Cow;

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
