//! Binary mode: attributes in `ce-…` headers, the data as the body. The same for NATS messages and HTTP
//! requests, as both CloudEvents bindings say. Header values are percent-encoded.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::Event;
use super::attributes::{Attributes, Media, media_type};
use crate::payload::Payload;

/// What a header value cannot hold as it is: white space, `"`, `%` and what lies outside U+0021–U+007E.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Reads an event in binary mode. Header names in any case.
///
/// Without `ce-traceparent` a plain `traceparent` header counts: instrumented clients set that one.
///
/// # Errors
/// All mistakes, one line each.
pub fn parse<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Event, Vec<String>> {
    let mut attributes = Attributes::default();
    let (mut traceparent, mut tracestate, mut baggage) = (None, None, None);
    for (name, value) in headers {
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        match name.strip_prefix("ce-") {
            Some(attribute) => match decode(value) {
                Some(text) => attributes.set(attribute, text),
                None => attributes.spoiled(attribute, format!("header `{name}` is not percent-encoded UTF-8")),
            },
            None if name == "traceparent" => traceparent = Some(value.to_owned()),
            None if name == "tracestate" => tracestate = Some(value.to_owned()),
            None if name == "baggage" => baggage = Some(value.into()),
            None => {}
        }
    }
    if attributes.get("traceparent").is_none()
        && let Some(parent) = traceparent
    {
        attributes.set("traceparent", parent);
        if let Some(state) = tracestate.filter(|_| attributes.get("tracestate").is_none()) {
            attributes.set("tracestate", state);
        }
    }
    let kind = attributes.get("datacontenttype").or(content_type);
    let data = data_of(kind, body);
    let mut event = attributes.finish(data)?;
    if let Some(trace) = &mut event.trace {
        trace.baggage = baggage;
    }
    Ok(event)
}

/// Returns the `ce-…` headers of an event, values percent-encoded, in a fixed order.
#[must_use]
pub fn headers(event: &Event) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::with_capacity(12);
    let mut add = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            headers.push((format!("ce-{name}"), encode(value)));
        }
    };
    add("specversion", Some("1.0"));
    add("id", Some(&event.id));
    add("source", Some(&event.source));
    add("type", Some(event.event_type.as_str()));
    add("time", event.time.as_deref());
    add("subject", event.subject.as_deref());
    add("dataschema", event.dataschema.as_deref());
    add("datacontenttype", (!event.data.is_null()).then_some("application/json"));
    add("correlationid", event.correlation_id.as_deref());
    add("causationid", event.causation_id.as_deref());
    add("partitionkey", event.partition_key.as_deref());
    if let Some(trace) = &event.trace {
        add("traceparent", Some(&trace.traceparent()));
        add("tracestate", trace.tracestate.as_deref());
    }
    for (name, value) in &event.extensions {
        add(name, Some(value));
    }
    headers
}

/// Returns the body: the data's JSON text, empty for an event without data.
#[must_use]
pub fn body(event: &Event) -> bytes::Bytes {
    if event.data.is_null() {
        return bytes::Bytes::new();
    }
    bytes::Bytes::copy_from_slice(event.data.text().as_bytes())
}

/// Percent-encodes a header's value.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Decodes a header's value: quotes are taken off, then percent triples are resolved once. A `%` that
/// begins no triple stays. None for bytes that are no UTF-8 (overlong forms included).
#[must_use]
pub fn decode(value: &str) -> Option<String> {
    let value = value.trim_matches([' ', '\t']);
    let quoted = value.len() > 1 && value.starts_with('"') && value.ends_with('"');
    if !quoted {
        return percent_decode_str(value).decode_utf8().ok().map(Into::into);
    }
    let mut plain = String::with_capacity(value.len());
    let mut chars = value[1..value.len() - 1].chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' { chars.next()? } else { c });
    }
    percent_decode_str(&plain).decode_utf8().ok().map(Into::into)
}

/// Reads a body as data. No content type means JSON.
fn data_of(content_type: Option<&str>, body: &[u8]) -> Result<Payload, String> {
    if body.is_empty() {
        return Ok(Payload::null());
    }
    let text = std::str::from_utf8(body).map_err(|error| format!("the data is no UTF-8: {error}"));
    match content_type.map(|kind| (kind, media_type(kind))) {
        None | Some((_, Some(Media::Json))) => {
            Payload::parse(text?).map_err(|error| format!("the data is no JSON: {error}"))
        }
        Some((_, Some(Media::Text))) => Ok(Payload::of(text?)),
        Some((kind, Some(Media::Other))) => Err(not_read(kind)),
        // The attribute itself is reported by `Attributes::finish`, a transport's header is not.
        Some((kind, None)) => Err(format!("content type `{kind}` is no media type such as application/json")),
    }
}

/// Says that data of this type is not read.
pub(super) fn not_read(kind: &str) -> String {
    format!("data of type `{kind}` is not read; events carry JSON (application/json, …+json), text or XML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_and_decoded() {
        let rows = [
            ("plain", "abc", "abc"),
            ("space and quote", "a \"b\"", "a%20%22b%22"),
            ("percent", "100%", "100%25"),
            ("Euro sign and emoji", "€😀", "%E2%82%AC%F0%9F%98%80"),
            ("line break", "a\r\nb", "a%0D%0Ab"),
            ("tilde stays, DEL does not", "~\u{7f}", "~%7F"),
        ];
        for (why, text, encoded) in rows {
            assert_eq!(encode(text), encoded, "{why}");
            assert_eq!(decode(encoded).as_deref(), Some(text), "{why}");
        }
        let rows = [
            ("lower-case hexadecimal", "%e2%82%ac", Some("€")),
            ("quoted", r#""a b \"c\" \\ %20""#, Some("a b \"c\" \\  ")),
            ("one round only", "%2541", Some("%41")),
            ("a lone percent sign", "100%", Some("100%")),
            ("raw UTF-8 of a careless client", "zahlung-ü", Some("zahlung-ü")),
            ("overlong", "%C0%A0", None),
            ("cut off", "%E2%82", None),
            ("surrogate", "%ED%A0%80", None),
            ("unfinished escape", r#""a\""#, None),
        ];
        for (why, value, expected) in rows {
            assert_eq!(decode(value).as_deref(), expected, "{why}: {value}");
        }
    }

    const BASE: [(&str, &str); 4] =
        [("CE-SpecVersion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "order.placed.v2")];
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn events_and_mistakes() {
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], Result<&'a str, &'a str>);
        let rows: &[Row<'_>] = &[
            ("no data", &[], b"", Ok("null")),
            ("JSON without a content type", &[], br#"{"a": 1.0}"#, Ok(r#"{"a": 1.0}"#)),
            ("text", &[("ce-datacontenttype", "text/plain")], b"hi \"you\"", Ok(r#""hi \"you\"""#)),
            ("a picture", &[("ce-datacontenttype", "image/png")], b"\x89PNG", Err("not read")),
            ("no media type", &[("ce-datacontenttype", "xyz")], b"1", Err("no media type")),
            ("broken JSON", &[], b"{\"a\":", Err("no JSON")),
            ("two documents", &[], b"1 2", Err("no JSON")),
            ("not UTF-8", &[], b"\"\xff\"", Err("no UTF-8")),
            ("an id twice", &[("Ce-Id", "2")], b"", Err("`id` is given more than once")),
            ("an overlong value", &[("ce-subject", "%C0%A0")], b"", Err("`ce-subject`")),
            ("an encoded line break", &[("ce-subject", "a%0D%0ANats-Rollup: all")], b"", Err("control character")),
            ("XML", &[("ce-datacontenttype", "application/xml")], b"<a/>", Ok(r#""<a/>""#)),
            ("a name with a dash", &[("ce-my-name", "1")], b"", Err("`my-name`")),
            ("other headers do not matter", &[("Nats-Msg-Id", "x"), ("X-Y", "\u{fc}")], b"", Ok("null")),
        ];
        for (why, more, body, expected) in rows {
            let got = parse(BASE.iter().chain(*more).copied(), None, body);
            match (got, expected) {
                (Ok(event), Ok(data)) => assert_eq!(event.data.text(), *data, "{why}"),
                (Err(mistakes), Err(part)) => assert!(mistakes.join("; ").contains(part), "{why}: {mistakes:?}"),
                (got, _) => panic!("{why}: {got:?}"),
            }
        }
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(parse(BASE, None, deep.as_bytes()).unwrap_err()[0].contains("nested"));
    }

    #[test]
    fn a_plain_traceparent_counts_when_the_attribute_is_missing() {
        let other = PARENT.replace("00f0", "00f1");
        type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, Option<&'a str>);
        let rows: &[Row<'_>] = &[
            ("none", vec![], None),
            ("plain", vec![("Traceparent", PARENT)], Some(PARENT)),
            ("the attribute wins", vec![("traceparent", &other), ("ce-traceparent", PARENT)], Some(PARENT)),
            ("a wrong one starts a new trace", vec![("ce-traceparent", "00-zz")], None),
        ];
        for (why, more, expected) in rows {
            let event = parse(BASE.iter().chain(more).copied(), None, b"").unwrap();
            assert_eq!(event.trace.map(|trace| trace.traceparent()).as_deref(), *expected, "{why}");
        }
    }

    #[test]
    fn written_and_read_again() {
        let trace = crate::trace_context::TraceContext::parse(PARENT, Some("a=1,b=2"));
        let event = Event {
            id: "№ 1/\"ü\" %".to_owned(),
            source: "/shop/€".to_owned(),
            event_type: "order.placed.v2".parse().unwrap(),
            time: Some("2026-01-31T12:00:00.5+01:00".to_owned()),
            subject: Some("A 1 : \"all\"".to_owned()),
            dataschema: Some("https://example.org/s".to_owned()),
            correlation_id: Some("c".to_owned()),
            causation_id: Some("d".to_owned()),
            partition_key: Some("k".to_owned()),
            trace,
            extensions: [("tenant".to_owned(), "日本".to_owned())].into(),
            data: Payload::parse(r#"{"a":1.10,"big":12345678901234567890123}"#).unwrap(),
        };
        let written = headers(&event);
        assert!(written.iter().all(|(_, value)| value.bytes().all(|b| (0x21..=0x7e).contains(&b))), "{written:?}");
        let again = parse(written.iter().map(|(n, v)| (n.as_str(), v.as_str())), None, &body(&event)).unwrap();
        assert_eq!(again, event);
    }
}
