//! Events and dead letters as NATS messages (CloudEvents NATS binding): subjects, `Nats-Msg-Id`, and which
//! of the two modes a message is in. No client's types here.

use bytes::Bytes;
use sha2::Digest;

use super::{DeadLetter, RawMessage};
use crate::envelope::attributes::{DATA_DEPTH_MAX, depth};
use crate::envelope::{Event, binary, structured};

/// The subjects of the EVENTS stream.
pub const EVENTS: &str = "events";
/// The subjects of the DEAD_LETTERS stream.
pub const DEAD_LETTERS: &str = "dead_letters";
/// What the server drops a repeated publish by.
pub const MSG_ID: &str = "Nats-Msg-Id";
/// Headers that a dead letter adds to the original ones: 64 KiB are kept free for them.
pub const ADDED_BYTES_MAX: usize = 64 * 1_024;
/// A detail longer than this is cut: percent-encoding makes at most three bytes of one.
const DETAIL_BYTES_MAX: usize = 8 * 1_024;

/// Writes an event as a message in binary mode, subject `events.<type>`.
#[must_use]
pub fn encode(event: &Event) -> RawMessage {
    let mut headers = binary::headers(event);
    // Instrumented subscribers that know nothing of CloudEvents look for the plain header.
    if let Some(trace) = &event.trace {
        headers.push(("traceparent".to_owned(), trace.traceparent()));
    }
    headers.push((MSG_ID.to_owned(), binary::encode(&format!("{}/{}", event.source, event.id))));
    RawMessage { subject: format!("{EVENTS}.{}", event.event_type), headers, payload: binary::body(event) }
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

/// Writes a dead letter: the original bytes and headers, and what went wrong.
///
/// Original headers that the server would act upon (`Nats-…`) are kept under `Backstitch-Original-…`.
/// `put_aside_at` is RFC 3339.
#[must_use]
pub fn encode_dead_letter(letter: &DeadLetter, put_aside_at: &str) -> RawMessage {
    let mut headers: Vec<(String, String)> = Vec::with_capacity(letter.raw.headers.len() + 8);
    for (name, value) in &letter.raw.headers {
        let ours = name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("nats-"));
        headers.push((if ours { format!("Backstitch-Original-{name}") } else { name.clone() }, value.clone()));
    }
    let detail = cut(&letter.detail, DETAIL_BYTES_MAX);
    for (name, value) in [
        ("Backstitch-Reason", binary::encode(&letter.reason)),
        ("Backstitch-Detail", binary::encode(detail)),
        ("Backstitch-Subject", binary::encode(&letter.raw.subject)),
        ("Backstitch-Stream", binary::encode(&letter.stream)),
        ("Backstitch-Sequence", letter.sequence.to_string()),
        ("Backstitch-Consumer", binary::encode(&letter.consumer)),
        ("Backstitch-Time", put_aside_at.to_owned()),
        (MSG_ID, dead_letter_id(letter)),
    ] {
        headers.push((name.to_owned(), value));
    }
    RawMessage {
        subject: format!("{DEAD_LETTERS}.{}", token(&letter.consumer)),
        headers,
        payload: letter.raw.payload.clone(),
    }
}

/// The same message put aside twice for the same reason is one dead letter. The hash tells a stream made
/// anew apart, where sequences begin again.
fn dead_letter_id(letter: &DeadLetter) -> String {
    let mut hash = sha2::Sha256::new();
    for part in [letter.raw.subject.as_bytes(), &letter.raw.payload, letter.reason.as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let short: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}/{}/{}/{short}", binary::encode(&letter.consumer), letter.stream, letter.sequence)
}

/// Makes one subject token of a text: what a token cannot hold becomes `_`.
#[must_use]
pub fn token(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let token: String = text.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    if token.is_empty() { "_".to_owned() } else { token }
}

/// Cuts a text at a character's boundary.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
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
        return Err(format!(
            "the data is nested {deepest} levels deep; at most {} are allowed",
            DATA_DEPTH_MAX
        ));
    }
    let texts = [&event.subject, &event.dataschema, &event.correlation_id, &event.causation_id, &event.partition_key];
    let texts = texts.into_iter().flatten().chain([&event.id, &event.source]).chain(event.extensions.values());
    if texts.into_iter().any(|text| text.chars().any(char::is_control)) {
        return Err("an attribute holds a control character, such as a line break".to_owned());
    }
    if event.id.is_empty() || event.source.is_empty() {
        return Err("`id` and `source` must not be empty".to_owned());
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
    fn dead_letters_keep_the_original() {
        let original =
            raw("events.x.v1", &[("nats-msg-id", "m"), ("Nats-Rollup", "all"), ("ce-id", "%E2")], b"\xff\x00");
        let letter = DeadLetter {
            raw: original,
            reason: "invalid_event".to_owned(),
            detail: format!("line\r\nbreak {}", "ü".repeat(DETAIL_BYTES_MAX)),
            consumer: "back.stitch*".to_owned(),
            stream: "EVENTS".to_owned(),
            sequence: 7,
        };
        let written = encode_dead_letter(&letter, "2026-01-31T12:00:00.000Z");
        assert_eq!(written.subject, "dead_letters.back_stitch_");
        assert_eq!(written.payload.as_ref(), b"\xff\x00");
        let get = |name: &str| written.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(get("ce-id"), Some("%E2"));
        assert_eq!((get("Nats-Rollup"), get("Backstitch-Original-Nats-Rollup")), (None, Some("all")));
        assert_eq!(get("Backstitch-Original-nats-msg-id"), Some("m"));
        assert_eq!(get("Backstitch-Sequence"), Some("7"));
        assert!(get("Backstitch-Detail").unwrap().starts_with("line%0D%0Abreak%20"));
        assert!(size(&written) - written.payload.len() < ADDED_BYTES_MAX);
        let same = encode_dead_letter(&letter, "2026-01-31T13:00:00.000Z");
        let id = |raw: &RawMessage| raw.headers.iter().find(|(n, _)| n == MSG_ID).unwrap().1.clone();
        assert_eq!(id(&same), id(&written));
        let other = DeadLetter { raw: raw("events.x.v1", &[], b"other"), ..letter };
        assert_ne!(id(&encode_dead_letter(&other, "")), id(&written));
    }
}
