//! A span of the SDK as bytes: field 2 of `ScopeSpans`, so that an exporter has only to string them together.
//! Source of the numbers: opentelemetry/proto/trace/v1/trace.proto and common/v1/common.proto.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{Event, Link, SpanId, SpanKind, Status};
use opentelemetry::{Array, Value};
use opentelemetry_sdk::trace::SpanData;

use super::wire::{Kind, bytes_field, fixed64_field, message_field, text_field, varint, varint_field};

/// A usual span: its strings, 16 attributes of 40 bytes each, ids and times.
const USUAL_BYTES: usize = 768;
/// `has_is_remote`, and `is_remote`, in the flags of spans and links.
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// Writes a finished span. Who sends it stands in front of the batch, so its scope is not repeated here.
pub fn encode(span: &SpanData) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    message_field(&mut bytes, 2, |to| {
        bytes_field(to, 1, &span.span_context.trace_id().to_bytes());
        bytes_field(to, 2, &span.span_context.span_id().to_bytes());
        text_field(to, 3, &span.span_context.trace_state().header());
        if span.parent_span_id != SpanId::INVALID {
            bytes_field(to, 4, &span.parent_span_id.to_bytes());
        }
        text_field(to, 5, &span.name);
        varint_field(to, 6, kind(&span.span_kind));
        fixed64_field(to, 7, nanos(span.start_time));
        fixed64_field(to, 8, nanos(span.end_time));
        for pair in &span.attributes {
            attribute(to, 9, pair.key.as_str(), &pair.value);
        }
        count(to, 10, span.dropped_attributes_count);
        span.events.events.iter().for_each(|said| event(to, said));
        count(to, 12, span.events.dropped_count);
        span.links.links.iter().for_each(|linked| link(to, linked));
        count(to, 14, span.links.dropped_count);
        match &span.status {
            Status::Unset => {}
            Status::Ok => status(to, "", 1),
            Status::Error { description } => status(to, description, 2),
        }
        flags(to, span);
    });
    bytes
}

const fn kind(kind: &SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

/// Times before 1970 do not occur; after 2554 the field is full.
fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// How many of something are not there; zero is what an absent field means.
fn count(to: &mut Vec<u8>, field: u8, dropped: u32) {
    if dropped > 0 {
        varint_field(to, field, dropped.into());
    }
}

fn status(to: &mut Vec<u8>, words: &str, code: u64) {
    message_field(to, 15, |to| {
        text_field(to, 2, words);
        varint_field(to, 3, code);
    });
}

/// Field 16, the only one whose tag has two bytes: the W3C flags, and whether the parent is another process's.
fn flags(to: &mut Vec<u8>, span: &SpanData) {
    let w3c = u32::from(span.span_context.trace_flags().to_u8());
    let flags = w3c | REMOTE_KNOWN | if span.parent_span_is_remote { REMOTE } else { 0 };
    varint(to, 16 << 3 | Kind::Fixed32 as u64);
    to.extend_from_slice(&flags.to_le_bytes());
}

fn event(to: &mut Vec<u8>, event: &Event) {
    message_field(to, 11, |to| {
        fixed64_field(to, 1, nanos(event.timestamp));
        text_field(to, 2, &event.name);
        for pair in &event.attributes {
            attribute(to, 3, pair.key.as_str(), &pair.value);
        }
        count(to, 4, event.dropped_attributes_count);
    });
}

fn link(to: &mut Vec<u8>, link: &Link) {
    message_field(to, 13, |to| {
        bytes_field(to, 1, &link.span_context.trace_id().to_bytes());
        bytes_field(to, 2, &link.span_context.span_id().to_bytes());
        text_field(to, 3, &link.span_context.trace_state().header());
        for pair in &link.attributes {
            attribute(to, 4, pair.key.as_str(), &pair.value);
        }
        count(to, 5, link.dropped_attributes_count);
    });
}

/// Writes a `KeyValue`.
pub fn attribute(to: &mut Vec<u8>, field: u8, name: &str, value: &Value) {
    message_field(to, field, |to| {
        bytes_field(to, 1, name.as_bytes());
        message_field(to, 2, |to| any_value(to, value));
    });
}

fn any_value(to: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => bytes_field(to, 1, text.as_str().as_bytes()),
        Value::Bool(flag) => varint_field(to, 2, u64::from(*flag)),
        Value::I64(number) => varint_field(to, 3, number.cast_unsigned()),
        Value::F64(number) => fixed64_field(to, 4, number.to_bits()),
        Value::Array(values) => message_field(to, 5, |to| array(to, values)),
        // The type may grow; what it grows by is shown as text.
        other => bytes_field(to, 1, other.as_str().as_bytes()),
    }
}

fn array(to: &mut Vec<u8>, values: &Array) {
    let mut each = |value: Value| message_field(to, 1, |to| any_value(to, &value));
    match values {
        Array::Bool(values) => values.iter().for_each(|value| each((*value).into())),
        Array::I64(values) => values.iter().for_each(|value| each((*value).into())),
        Array::F64(values) => values.iter().for_each(|value| each((*value).into())),
        Array::String(values) => values.iter().for_each(|value| each(value.clone().into())),
        other => each(other.to_string().into()),
    }
}
