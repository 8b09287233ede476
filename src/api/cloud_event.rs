//! CloudEvents 1.0 in HTTP requests (protocol binding 1.0.2): which mode a request is in, and where in it
//! the attributes are. What an event is, `envelope` says, the same as for NATS.

use http::{HeaderMap, StatusCode};

use super::body;
use super::problem::ApiError;
use crate::envelope::{Event, binary, structured};
use crate::trace_context::TraceContext;

/// How a request carries events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Structured,
    Binary,
    Batch,
}

/// Tells the mode (section 3): by the content type, else by `ce-` headers. A page in a browser cannot send
/// either across origins without asking first.
pub fn mode(headers: &HeaderMap) -> Result<Mode, ApiError> {
    let media = body::media_type(headers).unwrap_or_default();
    if structured::is_structured(&media) {
        Ok(Mode::Structured)
    } else if structured::is_batch(&media) {
        Ok(Mode::Batch)
    } else if !media.starts_with("application/cloudevents")
        && headers.keys().any(|name| name.as_str().starts_with("ce-"))
    {
        Ok(Mode::Binary)
    } else {
        Err(body::unsupported(
            &media,
            "application/cloudevents+json or application/cloudevents-batch+json, or `ce-` headers with \
             application/json; for data alone use POST /api/v1/events/{type}",
        ))
    }
}

/// Reads an event in binary mode: attributes from `ce-` headers, `Content-Type` for the data's type.
///
/// # Errors
/// Every mistake.
pub fn binary(headers: &HeaderMap, data: &[u8]) -> Result<Event, Vec<String>> {
    // A value that is no UTF-8 stands for itself as a percent triple that is none either.
    let text = |value: &http::HeaderValue| match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => "%FF".to_owned(),
    };
    let attributes: Vec<(&str, String)> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("ce-") && *name != "ce-datacontenttype")
        .map(|(name, value)| (name.as_str(), text(value)))
        .collect();
    let content_type = headers.get(http::header::CONTENT_TYPE).map(text);
    let attributes = attributes.iter().map(|(name, value)| (*name, value.as_str()));
    binary::parse(attributes, content_type.as_deref(), data)
}

/// Returns the trace that a request's headers continue.
pub fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    let texts = |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
    let baggage: Vec<&str> = texts("baggage").collect();
    let context = TraceContext::of_headers(texts("traceparent"), texts("tracestate"))?;
    Some(TraceContext { baggage: Some(baggage.join(",").into()).filter(|_| !baggage.is_empty()), ..context })
}

/// Makes the answer to what is no event: every mistake, in a batch with the event's place.
pub fn refused(mistakes: Vec<(Option<usize>, String)>) -> ApiError {
    let first = mistakes.iter().find_map(|(index, _)| *index);
    let errors = mistakes
        .into_iter()
        .map(|(index, mistake)| (index.map(|index| format!("/{index}")).unwrap_or_default(), mistake))
        .collect();
    let error = ApiError::new(StatusCode::BAD_REQUEST, "not-an-event", "this is no CloudEvent that is taken here")
        .errors(errors);
    match first {
        Some(index) => error.of_event(index),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in rows {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn modes() {
        let rows: &[(&str, &str, bool, Result<Mode, u16>)] = &[
            ("structured", "application/cloudevents+json; charset=utf-8", false, Ok(Mode::Structured)),
            ("structured wins over headers", "Application/CloudEvents+JSON", true, Ok(Mode::Structured)),
            ("batch", "application/cloudevents-batch+json", false, Ok(Mode::Batch)),
            ("binary", "application/json", true, Ok(Mode::Binary)),
            ("binary without a content type", "", true, Ok(Mode::Binary)),
            ("binary with text", "text/plain", true, Ok(Mode::Binary)),
            ("a format that is not read", "application/cloudevents+avro", true, Err(415)),
            ("data alone", "application/json", false, Err(415)),
            ("what a form can send", "text/plain", false, Err(415)),
        ];
        for (why, content, binary, expected) in rows {
            let mut given = HeaderMap::new();
            if !content.is_empty() {
                given.insert("content-type", content.parse().unwrap());
            }
            if *binary {
                given.insert("ce-id", "1".parse().unwrap());
            }
            assert_eq!(mode(&given).map_err(|error| error.details().status), *expected, "{why}");
        }
    }

    #[test]
    fn binary_requests() {
        let base = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "order.placed.v2")];
        let with = |more: &[(&'static str, &'static str)]| {
            let rows: Vec<_> = base.iter().chain(more).copied().collect();
            headers(&rows)
        };
        let more = [("ce-partitionkey", "\"A \\\"1\\\"\""), ("ce-subject", "caf%c3%a9"), ("x-ce", "no")];
        let event = binary(&with(&more), b"{\"a\":1.10}").unwrap();
        assert_eq!(event.partition_key.as_deref(), Some("A \"1\""));
        assert_eq!(event.subject.as_deref(), Some("café"));
        assert_eq!(event.data.text(), "{\"a\":1.10}");
        assert!(event.extensions.is_empty());
        let text = binary(&with(&[("content-type", "text/plain"), ("ce-datacontenttype", "x/y")]), b"hi").unwrap();
        assert_eq!(text.data.text(), "\"hi\"", "Content-Type says it, not the attribute");

        type Row<'a> = (&'a str, &'a [(&'static str, &'static str)], usize, &'a str);
        let rows: &[Row<'_>] = &[
            ("overlong UTF-8", &[("ce-subject", "%C0%A0")], 1, "ce-subject"),
            ("an encoded line break", &[("ce-subject", "a%0ANats-Rollup: all")], 1, "control character"),
            ("given twice", &[("ce-id", "2")], 1, "`id` is given more than once"),
            ("a picture", &[("content-type", "image/png")], 1, "not read"),
            ("several at once", &[("ce-id", "2"), ("ce-time", "noon"), ("ce-a-b", "1")], 3, "`time`"),
        ];
        for (why, more, count, part) in rows {
            let mistakes = binary(&with(more), b"{}").unwrap_err();
            assert_eq!(mistakes.len(), *count, "{why}: {mistakes:?}");
            assert!(mistakes.iter().any(|mistake| mistake.contains(part)), "{why}: {mistakes:?}");
        }
        let mut raw = with(&[]);
        raw.insert("ce-subject", http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(binary(&raw, b"").is_err(), "no UTF-8");
    }
}
