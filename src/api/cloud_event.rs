//! CloudEvents 1.0 over HTTP (protocol binding 1.0.2, JSON format 1.0.2): structured, binary and batch
//! mode. Data is JSON here; anything else is refused with the attribute's name.

use std::collections::BTreeMap;

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

use super::body::TEXT_BYTES_MAX;
use crate::envelope::Event;
use crate::id::EventType;
use crate::payload::Payload;
use crate::trace_context::TraceContext;

/// The content type of structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";
/// The content type of a batch.
pub const BATCH: &str = "application/cloudevents-batch+json";
/// Attribute names are at most this long (CloudEvents 1.0.2 section 3.1 recommends 20; others send longer ones).
const NAME_BYTES_MAX: usize = 64;

/// Why something is no event: the attribute and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{attribute}: {reason}")]
pub struct NotAnEvent {
    pub attribute: String,
    pub reason: String,
}

fn refuse<T>(attribute: &str, reason: impl Into<String>) -> Result<T, NotAnEvent> {
    Err(NotAnEvent { attribute: attribute.to_owned(), reason: reason.into() })
}

/// Reads an event in structured mode. The text is JSON already checked.
pub fn structured(text: &str) -> Result<Event, NotAnEvent> {
    let members: BTreeMap<String, Box<RawValue>> = match serde_json::from_str(text) {
        Ok(members) => members,
        Err(_) => return refuse("event", "is not a JSON object"),
    };
    let (mut attributes, mut data) = (BTreeMap::new(), None);
    for (name, raw) in members {
        match name.as_str() {
            "data" => data = Some(raw),
            "data_base64" => {
                return refuse("data_base64", "binary data is not taken; send JSON in `data`");
            }
            _ => {
                if let Some(text) = attribute_text(&name, raw.get())? {
                    attributes.insert(name, text);
                }
            }
        }
    }
    event(attributes, data.map_or_else(Payload::null, |raw| Payload::of(&raw)))
}

/// Reads one attribute's value as text: strings, integers and booleans; null is absent.
fn attribute_text(name: &str, raw: &str) -> Result<Option<String>, NotAnEvent> {
    let core = matches!(
        name,
        "specversion" | "id" | "source" | "type" | "time" | "subject" | "dataschema" | "datacontenttype"
    );
    match serde_json::from_str(raw) {
        Ok(serde_json::Value::Null) => Ok(None),
        Ok(serde_json::Value::String(text)) => Ok(Some(text)),
        Ok(serde_json::Value::Bool(_)) if !core => Ok(Some(raw.to_owned())),
        Ok(serde_json::Value::Number(number)) if !core && number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
            Ok(Some(raw.to_owned()))
        }
        _ if core => refuse(name, "is not a string"),
        _ => refuse(name, "an attribute is a string, a boolean or a 32-bit integer"),
    }
}

/// Reads an event in binary mode: attributes from `ce-` headers, `data` from the body.
pub fn binary(headers: &HeaderMap, data: Payload) -> Result<Event, NotAnEvent> {
    let mut attributes = BTreeMap::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let Ok(value) = value.to_str() else {
            return refuse(name, "is not ASCII; percent-encode it");
        };
        if attributes.insert(name.to_owned(), header_text(name, value)?).is_some() {
            return refuse(name, "is given twice");
        }
    }
    attributes.remove("datacontenttype"); // `Content-Type` says it in this mode
    if !attributes.contains_key("traceparent")
        && let Some(trace) = trace(headers)
    {
        attributes.insert("traceparent".into(), trace.traceparent());
        if let Some(state) = &trace.tracestate {
            attributes.insert("tracestate".into(), state.to_string());
        }
    }
    event(attributes, data)
}

/// Decodes a header's value: a quoted string loses its quotes, percent-encoding is undone (section 3.1.3.2).
fn header_text(name: &str, value: &str) -> Result<String, NotAnEvent> {
    let trimmed = value.trim();
    let unquoted = trimmed.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map_or_else(
        || trimmed.to_owned(),
        |inner| {
            let mut text = String::with_capacity(inner.len());
            let mut characters = inner.chars();
            while let Some(c) = characters.next() {
                text.extend(if c == '\\' { characters.next() } else { Some(c) });
            }
            text
        },
    );
    match percent_decode_str(&unquoted).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => refuse(name, "its percent-encoding is not UTF-8"),
    }
}

/// Returns the trace that a request's headers continue.
pub fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all("traceparent").iter();
    let parent = parents.next()?.to_str().ok()?;
    if parents.next().is_some() {
        return None; // W3C section 3.2: several of them are none
    }
    let states: Vec<&str> = headers.get_all("tracestate").iter().filter_map(|value| value.to_str().ok()).collect();
    TraceContext::parse(parent, Some(&states.join(",")).filter(|state| !state.is_empty()).map(String::as_str))
}

/// Makes an event of its attributes, or says which one is wrong.
fn event(mut attributes: BTreeMap<String, String>, data: Payload) -> Result<Event, NotAnEvent> {
    for (name, text) in &attributes {
        if name.is_empty()
            || name.len() > NAME_BYTES_MAX
            || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        {
            return refuse(name, "attribute names are a-z and 0-9");
        }
        if text.is_empty() {
            return refuse(name, "is empty");
        }
        if text.len() > TEXT_BYTES_MAX {
            return refuse(name, format!("has {} bytes; at most {TEXT_BYTES_MAX} are taken", text.len()));
        }
        if text.chars().any(char::is_control) {
            return refuse(name, "holds control characters");
        }
    }
    let mut take = |name: &str| attributes.remove(name);
    let required = |name: &str, value: Option<String>| match value {
        Some(text) => Ok(text),
        None => refuse(name, "is missing"),
    };
    let version = required("specversion", take("specversion"))?;
    if version != "1.0" {
        return refuse("specversion", format!("`{version}` is not known; 1.0 is"));
    }
    let (id, source) = (required("id", take("id"))?, required("source", take("source"))?);
    let event_type = required("type", take("type"))?;
    let event_type = match EventType::parse(&event_type) {
        Ok(event_type) => event_type,
        Err(error) => return refuse("type", error.to_string()),
    };
    if let Some(content) = take("datacontenttype") {
        let media = content.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        if !super::body::is_json(&media) {
            return refuse("datacontenttype", format!("`{content}` is not taken; data is JSON here"));
        }
    }
    let time = take("time");
    if time.as_deref().is_some_and(|time| !is_rfc_3339(time)) {
        return refuse("time", "is not RFC 3339, for example 2026-01-31T12:00:00Z");
    }
    let (parent, state) = (take("traceparent"), take("tracestate"));
    Ok(Event {
        subject: take("subject"),
        dataschema: take("dataschema"),
        correlation_id: take("correlationid"),
        causation_id: take("causationid"),
        partition_key: take("partitionkey"),
        trace: parent.and_then(|parent| TraceContext::parse(&parent, state.as_deref())),
        id,
        source,
        event_type,
        time,
        extensions: attributes,
        data,
    })
}

/// True for a date, a time with seconds, and an offset (RFC 3339 section 5.6).
fn is_rfc_3339(text: &str) -> bool {
    let shape: Vec<u8> = text.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b }).collect();
    let Some(rest) = shape.strip_prefix(b"0000-00-00T00:00:00") else { return false };
    let rest = match rest.strip_prefix(b".") {
        None => rest,
        Some(fraction) => {
            let digits = fraction.iter().take_while(|b| **b == b'0').count();
            if digits == 0 {
                return false;
            }
            &fraction[digits..]
        }
    };
    let offset = match rest {
        b"Z" => true,
        b"+00:00" | b"-00:00" => {
            let (hours, minutes) = text[text.len() - 5..].split_once(':').unwrap_or(("", ""));
            hours < "24" && minutes < "60" // two digits each
        }
        _ => false,
    };
    offset && text.parse::<jiff::Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structured_events() {
        let with = |member: &str| {
            format!(r#"{{"specversion":"1.0","id":"1","source":"/shop","type":"order.placed.v2"{member}}}"#)
        };
        let rows: &[(&str, String, Option<&str>)] = &[
            ("the least", with(""), None),
            ("null is absent", with(r#","time":null,"subject":null,"ext":null"#), None),
            ("JSON data", with(r#","datacontenttype":"application/json","data":{"a":1}"#), None),
            ("nanoseconds and an offset", with(r#","time":"2018-04-05T18:31:00.000000001+01:00""#), None),
            ("extension types", with(r#","extint":10,"extbool":true,"exttext":"a""#), None),
            ("no JSON object", "[]".into(), Some("event")),
            ("no id", r#"{"specversion":"1.0","source":"/s","type":"a.v1"}"#.into(), Some("id")),
            ("a numeric id", r#"{"specversion":"1.0","id":25,"source":"/s","type":"a.v1"}"#.into(), Some("id")),
            (
                "another version",
                r#"{"specversion":"0.9","id":"1","source":"/s","type":"a.v1"}"#.into(),
                Some("specversion"),
            ),
            (
                "no version in the type",
                r#"{"specversion":"1.0","id":"1","source":"/s","type":"a"}"#.into(),
                Some("type"),
            ),
            ("empty source", r#"{"specversion":"1.0","id":"1","source":"","type":"a.v1"}"#.into(), Some("source")),
            ("empty subject", with(r#","subject":"""#), Some("subject")),
            ("time without seconds", with(r#","time":"2018-04-05T18:31Z""#), Some("time")),
            ("offset out of range", with(r#","time":"2018-04-05T18:31:00+25:00""#), Some("time")),
            ("hours only", with(r#","time":"2018-04-05T18:31:00+05""#), Some("time")),
            ("no time", with(r#","time":"lunchtime""#), Some("time")),
            ("upper case", with(r#","MyExtension":"bad""#), Some("MyExtension")),
            ("punctuation", with(r#","my.extension":"bad""#), Some("my.extension")),
            ("a fraction", with(r#","ext":1.5"#), Some("ext")),
            ("an object", with(r#","ext":{}"#), Some("ext")),
            ("binary data", with(r#","data_base64":"eyB9""#), Some("data_base64")),
            ("text data", with(r#","datacontenttype":"text/plain","data":"x""#), Some("datacontenttype")),
            ("a line break", with(r#","partitionkey":"a\nb""#), Some("partitionkey")),
        ];
        for (why, text, refused) in rows {
            let attribute = structured(text).err().map(|error| error.attribute);
            assert_eq!(attribute.as_deref(), *refused, "{why}");
        }
    }

    #[test]
    fn binary_events() {
        let headers = |more: &[(&'static str, &'static str)]| {
            let base =
                [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "order.placed.v2")];
            let mut headers = HeaderMap::new();
            for (name, value) in base.iter().chain(more) {
                headers.append(*name, value.parse().unwrap());
            }
            headers
        };
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let more = [
            ("ce-partitionkey", "\"A \\\"1\\\"\""),
            ("ce-subject", "caf%c3%a9"),
            ("traceparent", parent),
            ("x-ce", "no"),
        ];
        let event = binary(&headers(&more), Payload::null()).unwrap();
        assert_eq!(event.partition_key.as_deref(), Some("A \"1\""));
        assert_eq!(event.subject.as_deref(), Some("café"));
        assert_eq!(event.trace.unwrap().traceparent(), parent);
        assert!(event.extensions.is_empty());

        for (why, header, attribute) in [
            ("overlong UTF-8", ("ce-subject", "%C0%A0"), "subject"),
            ("an encoded line break", ("ce-subject", "a%0Ab"), "subject"),
            ("given twice", ("ce-id", "2"), "id"),
        ] {
            assert_eq!(binary(&headers(&[header]), Payload::null()).unwrap_err().attribute, attribute, "{why}");
        }
    }

    #[test]
    fn digits_of_the_data_are_kept() {
        let text = r#"{"specversion":"1.0","id":"1","source":"/s","type":"a.v1","data":{"n":1.10,"big":12345678901234567890123}}"#;
        assert_eq!(structured(text).unwrap().data.text(), r#"{"n":1.10,"big":12345678901234567890123}"#);
    }
}
