//! Events and dead letters as NATS messages (CloudEvents NATS binding): subjects, `Nats-Msg-Id`, and which
//! of the two modes a message is in. No client's types here.

use bytes::Bytes;

use super::{NoEvent, RawMessage};
use crate::envelope::attributes::{DATA_DEPTH_MAX, depth};
use crate::envelope::{Event, binary, structured};

/// The subjects of the EVENTS stream.
pub const EVENTS: &str = "events";
/// The subjects of the DEAD_LETTERS stream.
pub const DEAD_LETTERS: &str = "dead_letters";
/// The subjects of the audit stream.
pub const AUDIT: &str = "backstitch.audit";
/// The subjects of the stream of kept values.
pub const STATE: &str = "backstitch.state";
/// What the server drops a repeated publish by.
pub const MSG_ID: &str = "Nats-Msg-Id";
/// Headers that a dead letter adds to the original ones: 64 KiB are kept free for them.
pub const ADDED_BYTES_MAX: usize = 64 * 1_024;

/// Writes an event as a message in binary mode, subject `events.<type>`.
#[must_use]
pub fn encode(event: &Event) -> RawMessage {
    let mut headers = binary::headers(event);
    // Instrumented subscribers that know nothing of CloudEvents look for the plain header.
    if let Some(trace) = &event.trace {
        headers.push(("traceparent".to_owned(), trace.traceparent()));
        let others = [("tracestate", &trace.tracestate), ("baggage", &trace.baggage)];
        let others = others.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.as_deref()?.to_owned())));
        headers.extend(others);
    }
    headers.push((MSG_ID.to_owned(), binary::encode(&format!("{}/{}", event.source, event.id))));
    RawMessage { subject: format!("{EVENTS}.{}", event.event_type), headers, payload: binary::body(event) }
}

/// Reads a message in either mode, unless it is larger than what is taken.
///
/// # Errors
/// What a dead letter says.
pub fn read(raw: &RawMessage, bytes_max: usize) -> Result<Event, NoEvent> {
    let bytes = size(raw);
    if bytes > bytes_max {
        let detail = format!("it has {bytes} bytes with its headers; nats.event_bytes_max is {bytes_max}");
        return Err(NoEvent { reason: "too_large", detail });
    }
    decode(raw).map_err(|detail| NoEvent { reason: "invalid_event", detail })
}

/// Reads a message in either mode.
///
/// # Errors
/// One line with every mistake: what a dead letter says.
pub fn decode(raw: &RawMessage) -> Result<Event, String> {
    let content_type =
        raw.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type")).map(|(_, value)| value.as_str());
    let event = match content_type {
        Some(kind) if structured::is_structured(kind) => structured::parse(&raw.payload),
        Some(kind) if kind.trim_start().to_ascii_lowercase().starts_with("application/cloudevents") => {
            Err(vec![format!(
                "content type `{kind}` is not read; write application/cloudevents+json, or `ce-` headers"
            )])
        }
        _ => binary::parse(raw.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())), content_type, &raw.payload),
    };
    let event = event.map_err(|mistakes| mistakes.join("; "))?;
    if raw.subject.strip_prefix("events.") != Some(event.event_type.as_str()) {
        return Err(format!("`type` is `{}`, but the subject is `{}`", event.event_type, raw.subject));
    }
    Ok(event)
}

/// Reads a block of headers as it lies in a stream, by the NATS client's own rules: what it could not hand
/// over is no event either.
///
/// # Errors
/// One line: which of the rules is broken.
pub fn read_headers(subject: &str, headers: &[u8]) -> Result<Vec<(String, String)>, String> {
    // The API writes U+FFFD for what is no UTF-8; the client splits a message's first line at white space.
    if subject.chars().any(|c| c == char::REPLACEMENT_CHARACTER || c.is_whitespace()) {
        return Err("the subject is no UTF-8 or holds white space".to_owned());
    }
    let mut read: Vec<(String, String)> = Vec::new();
    if headers.is_empty() {
        return Ok(read);
    }
    let text = std::str::from_utf8(headers).map_err(|error| format!("the headers are no UTF-8: {error}"))?;
    let mut lines = text.lines();
    match lines.next().and_then(|line| line.strip_prefix("NATS/1.0")).map(str::trim) {
        Some("") => {}
        Some(status) => return Err(format!("the headers begin with a status, `{}`", status.escape_default())),
        None => return Err("the headers do not begin with NATS/1.0".to_owned()),
    }
    for line in lines.filter(|line| !line.is_empty()) {
        if line.contains('\r') {
            return Err("a header holds a lone carriage return".to_owned());
        }
        if line.starts_with(char::is_whitespace)
            && let Some((_, value)) = read.last_mut()
        {
            *value = format!("{value} {}", line.trim());
            continue;
        }
        match line.split_once(':') {
            None => return Err(format!("the header line `{}` has no colon", line.escape_default())),
            Some((name, _)) if name.chars().any(|c| !c.is_ascii_graphic()) => {
                return Err(format!("the header name `{}` holds what no name may", name.escape_default()));
            }
            Some((name, value)) => read.push((name.to_owned(), value.trim().to_owned())),
        }
    }
    read.sort_by(|a, b| a.0.cmp(&b.0)); // the client keeps them in no order
    Ok(read)
}

/// Returns the bytes of a message that count against the server's `max_payload`.
#[must_use]
pub fn size(raw: &RawMessage) -> usize {
    let headers: usize = raw.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    headers + raw.payload.len() + 14 // "NATS/1.0\r\n" in front and an empty line behind
}

/// Refuses data that could not be read back; see [`depth`].
///
/// # Errors
/// One line for people.
pub fn check(event: &Event) -> Result<(), String> {
    let deepest = depth(event.data.text());
    if deepest > DATA_DEPTH_MAX {
        return Err(format!("the data is nested {deepest} levels deep; at most {} are allowed", DATA_DEPTH_MAX));
    }
    let texts = [&event.subject, &event.dataschema, &event.correlation_id, &event.causation_id, &event.partition_key];
    let texts = texts.into_iter().flatten().chain([&event.id, &event.source]).chain(event.extensions.values());
    if texts.into_iter().any(|text| text.chars().any(char::is_control)) {
        return Err("an attribute holds a control character, such as a line break".to_owned());
    }
    if event.id.is_empty() || event.source.is_empty() {
        return Err("`id` and `source` must not be empty".to_owned());
    }
    // What would not be read back is not sent (issue 3).
    for (name, uri) in [("source", Some(&event.source)), ("dataschema", event.dataschema.as_ref())] {
        if uri.is_some_and(|uri| uri.chars().any(char::is_whitespace)) {
            return Err(format!("`{name}` holds white space, which no URI does"));
        }
    }
    Ok(())
}

/// Makes a message of a subject, headers and bytes, as tests and the memory bus inject them.
#[must_use]
pub fn raw(subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> RawMessage {
    RawMessage {
        subject: subject.to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        payload: Bytes::copy_from_slice(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;

    fn event() -> Event {
        Event {
            id: "1 ü".to_owned(),
            source: "/shop".to_owned(),
            event_type: "order.placed.v2".parse().unwrap(),
            time: None,
            subject: None,
            dataschema: None,
            correlation_id: None,
            causation_id: None,
            partition_key: None,
            trace: None,
            extensions: Default::default(),
            data: Payload::parse(r#"{"orderId":"A-1"}"#).unwrap(),
        }
    }

    #[test]
    fn written_and_read_again() {
        let raw = encode(&event());
        assert_eq!(raw.subject, "events.order.placed.v2");
        assert!(raw.headers.contains(&(MSG_ID.to_owned(), "/shop/1%20%C3%BC".to_owned())));
        assert_eq!(decode(&raw).unwrap(), event());
    }

    #[test]
    fn both_modes_and_mistakes() {
        let json = event().to_cloud_event();
        let subject = "events.order.placed.v2";
        let headers: &[(&str, &str)] =
            &[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "order.placed.v2")];
        type Row<'a> = (&'a str, RawMessage, Option<&'a str>);
        let rows: Vec<Row<'_>> = vec![
            ("binary", raw(subject, headers, b"{}"), None),
            (
                "structured",
                raw(subject, &[("content-type", "application/cloudevents+json")], json.text().as_bytes()),
                None,
            ),
            (
                "structured, any case, parameters",
                raw(
                    subject,
                    &[("CONTENT-TYPE", "Application/CloudEvents+JSON; charset=UTF-8")],
                    json.text().as_bytes(),
                ),
                None,
            ),
            (
                "another format",
                raw(subject, &[("Content-Type", "application/cloudevents+avro")], b"x"),
                Some("not read"),
            ),
            (
                "a batch",
                raw(subject, &[("Content-Type", "application/cloudevents-batch+json")], b"[]"),
                Some("not read"),
            ),
            ("no headers", raw(subject, &[], b"{}"), Some("`specversion` is missing; `id` is missing")),
            ("another subject", raw("events.order.placed.v3", headers, b"{}"), Some("but the subject is")),
            ("no version", raw("events.order", &[("ce-type", "order")], b"{}"), Some("`type`: event type `order`")),
        ];
        for (why, raw, mistake) in rows {
            match (decode(&raw), mistake) {
                (Ok(_), None) => {}
                (Err(found), Some(part)) => assert!(found.contains(part), "{why}: {found}"),
                (got, _) => panic!("{why}: {got:?}"),
            }
        }
    }

    #[test]
    fn what_the_client_reads() {
        let rows: &[(&str, &str, &[u8], Option<&str>)] = &[
            ("no headers", "events.a.v1", b"", None),
            ("headers", "events.a.v1", b"NATS/1.0\r\nce-id: 1\r\nempty:\r\n\r\n", None),
            ("UTF-8", "events.\u{fc}.v1", "NATS/1.0\r\nce-id: \u{fc}\r\n\r\n".as_bytes(), None),
            ("continued", "events.a.v1", b"NATS/1.0\r\na: 1\r\n  2\r\n\r\n", None),
            ("Latin-1", "events.a.v1", b"NATS/1.0\r\nce-id: \xfc\r\n\r\n", Some("no UTF-8")),
            ("no colon", "events.a.v1", b"NATS/1.0\r\nhello\r\n\r\n", Some("`hello` has no colon")),
            ("a name with a space", "events.a.v1", b"NATS/1.0\r\nce id: 1\r\n\r\n", Some("`ce id`")),
            ("continues nothing", "events.a.v1", b"NATS/1.0\r\n a: 1\r\n\r\n", Some("` a`")),
            ("a lone carriage return", "events.a.v1", b"NATS/1.0\r\na: b\rc\r\n\r\n", Some("carriage return")),
            ("a status", "events.a.v1", b"NATS/1.0 408 Request Timeout\r\n\r\n", Some("`408 Request Timeout`")),
            ("no version", "events.a.v1", b"a: 1\r\n\r\n", Some("do not begin")),
            ("a subject with white space", "events.\u{a0}.v1", b"", Some("subject")),
            ("a subject that was no UTF-8", "events.\u{fffd}.v1", b"", Some("subject")),
        ];
        for (why, subject, headers, expected) in rows {
            match (read_headers(subject, headers), expected) {
                (Ok(_), None) => {}
                (Err(found), Some(part)) => assert!(found.contains(part), "{why}: {found}"),
                (got, _) => panic!("{why}: {got:?}"),
            }
        }
        let read = read_headers("s", b"NATS/1.0\r\nb: 1\r\na: x\r\n y\r\n\r\n").unwrap();
        assert_eq!(read, [("a".to_owned(), "x y".to_owned()), ("b".to_owned(), "1".to_owned())]);
    }
}
