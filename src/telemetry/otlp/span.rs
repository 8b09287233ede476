//! A span as bytes: field 2 of `ScopeSpans`, so that an exporter has only to string them together.
//! Source of the numbers: opentelemetry/proto/trace/v1/trace.proto and common/v1/common.proto.

use super::super::span::{AttrValue, EngineSpan, SpanKind, SpanStatus};
use super::wire::{
    Kind, bytes_field, bytes_len, fixed64_field, message_field, tag, text_field, varint, varint_field, varint_len,
};
use crate::trace_context::TraceContext;

/// A usual span: its strings, 16 attributes of 40 bytes each, ids and times.
const USUAL_BYTES: usize = 768;
/// `has_is_remote`, and `is_remote`, in the flags of spans and links.
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// Writes a span of the engine.
pub fn engine(span: &EngineSpan<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    message_field(&mut bytes, 2, |to| {
        bytes_field(to, 1, &span.context.trace_id.0);
        bytes_field(to, 2, &span.context.span_id.0);
        text_field(to, 3, span.context.tracestate.as_deref().unwrap_or_default());
        if let Some(parent) = span.parent {
            bytes_field(to, 4, &parent.0);
        }
        text_field(to, 5, &span.name);
        varint_field(to, 6, kind(span.kind));
        fixed64_field(to, 7, span.start_us.saturating_mul(1_000));
        // A clock set back between the two must not give a span that ends before it begins.
        fixed64_field(to, 8, span.end_us.max(span.start_us).saturating_mul(1_000));
        for (name, value) in &span.attributes {
            attribute(to, 9, name, value);
        }
        for linked in &span.links {
            link(to, linked);
        }
        match &span.status {
            SpanStatus::Unset => {}
            SpanStatus::Ok => status(to, "", 1),
            SpanStatus::Error(words) => status(to, words, 2),
        }
        flags(to, &span.context, span.parent_is_remote);
    });
    bytes
}

const fn kind(kind: SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn status(to: &mut Vec<u8>, words: &str, code: u64) {
    message_field(to, 15, |to| {
        text_field(to, 2, words);
        varint_field(to, 3, code);
    });
}

/// Field 16, the only one whose tag has two bytes: the W3C flags, and whether the parent is another process's.
fn flags(to: &mut Vec<u8>, context: &TraceContext, parent_is_remote: bool) {
    let w3c = u32::from(context.sampled) | u32::from(context.random) << 1;
    let flags = w3c | REMOTE_KNOWN | if parent_is_remote { REMOTE } else { 0 };
    varint(to, 16 << 3 | Kind::Fixed32 as u64);
    to.extend_from_slice(&flags.to_le_bytes());
}

fn link(to: &mut Vec<u8>, context: &TraceContext) {
    message_field(to, 13, |to| {
        bytes_field(to, 1, &context.trace_id.0);
        bytes_field(to, 2, &context.span_id.0);
        text_field(to, 3, context.tracestate.as_deref().unwrap_or_default());
    });
}

/// Writes a `KeyValue`.
pub fn attribute(to: &mut Vec<u8>, field: u8, name: &str, value: &AttrValue<'_>) {
    // `AnyValue`: its own length is needed first.
    let value_len = match value {
        AttrValue::Text(text) => bytes_len(text.len()),
        AttrValue::Int(number) => 1 + varint_len(*number as u64),
        AttrValue::Bool(_) => 2,
    };
    tag(to, field, Kind::Bytes);
    varint(to, (bytes_len(name.len()) + bytes_len(value_len)) as u64);
    bytes_field(to, 1, name.as_bytes());
    tag(to, 2, Kind::Bytes);
    varint(to, value_len as u64);
    match value {
        AttrValue::Text(text) => bytes_field(to, 1, text.as_bytes()),
        AttrValue::Bool(flag) => varint_field(to, 2, u64::from(*flag)),
        AttrValue::Int(number) => varint_field(to, 3, *number as u64),
    }
}
