//! An event as the product sees it: the CloudEvents 1.0 attributes that matter to us, the data as raw
//! JSON, and any further extension kept as it came; and how it is read from and written as CloudEvents in
//! the binary and the structured mode, the same for NATS and HTTP. Which mode a message is in, and where
//! its headers come from, is the business of whoever has the wire.

pub mod attributes;
pub mod base64;
pub mod binary;
pub mod structured;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::EventType;
use crate::payload::Payload;
use crate::trace_context::TraceContext;

/// One event. Its identity is (`source`, `id`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub id: String,
    /// A URI reference, not empty.
    pub source: String,
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// RFC 3339, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataschema: Option<String>,
    #[serde(default, rename = "correlationid", skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    #[serde(default, rename = "causationid", skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
    #[serde(default, rename = "partitionkey", skip_serializing_if = "Option::is_none")]
    pub partition_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
    /// Other extension attributes by name, in text form.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extensions: BTreeMap<String, String>,
    /// JSON; `null` when the event has no data.
    pub data: Payload,
}

impl Event {
    /// Returns the event as CloudEvents JSON (structured mode): `$event` in expressions.
    #[must_use]
    pub fn to_cloud_event(&self) -> Payload {
        #[derive(Serialize)]
        struct View<'a> {
            specversion: &'static str,
            id: &'a str,
            source: &'a str,
            #[serde(rename = "type")]
            event_type: &'a EventType,
            #[serde(skip_serializing_if = "Option::is_none")]
            time: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            subject: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            dataschema: Option<&'a str>,
            datacontenttype: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            correlationid: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            causationid: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            partitionkey: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            traceparent: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            tracestate: Option<&'a str>,
            #[serde(flatten)]
            extensions: &'a BTreeMap<String, String>,
            data: &'a Payload,
        }
        Payload::of(&View {
            specversion: "1.0",
            id: &self.id,
            source: &self.source,
            event_type: &self.event_type,
            time: self.time.as_deref(),
            subject: self.subject.as_deref(),
            dataschema: self.dataschema.as_deref(),
            datacontenttype: "application/json",
            correlationid: self.correlation_id.as_deref(),
            causationid: self.causation_id.as_deref(),
            partitionkey: self.partition_key.as_deref(),
            traceparent: self.trace.as_ref().map(TraceContext::traceparent),
            tracestate: self.trace.as_ref().and_then(|trace| trace.tracestate.as_deref()),
            extensions: &self.extensions,
            data: &self.data,
        })
    }
}
