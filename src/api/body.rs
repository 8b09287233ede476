//! Reads what a client sends, within bounds: size, depth of nesting, time, content type.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::problem::ApiError;
use crate::payload::Payload;

/// A body arrives at the pace of the client's network: 1 MiB in 30 s is 280 kbit/s.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// A client that is refused for the size of its body is still sending it: closing on what it sends resets the
/// connection, and it never sees the answer. So this much of the rest is read and thrown away first.
const REST_BYTES_MAX: usize = 64 * 1024 * 1024;
const REST_WAIT: Duration = Duration::from_secs(10);
/// What we read is stored and read back inside other documents; serde_json ends at 128.
pub const JSON_DEPTH_MAX: usize = 100;
/// Keys, ids, sources: they appear in headers, subjects, spans and lists.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// Reads a body of at most `bytes_max`.
pub async fn read(headers: &HeaderMap, mut body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body is too large")
            .detail(format!("at most {bytes_max} bytes are taken"))
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        // Whoever asks first sends nothing when refused.
        if !headers.contains_key(header::EXPECT) {
            discard(body).await;
        }
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_WAIT, Limited::new(&mut body, bytes_max).collect()).await {
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "the body did not arrive in time")
            .detail(format!("it is awaited for {} s", BODY_WAIT.as_secs()))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(body).await;
            Err(too_large())
        }
        Ok(Err(error)) => Err(ApiError::bad_request(format!("the body broke off: {error}"))),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

/// Reads the rest of a body, within bounds, and throws it away.
async fn discard(mut body: Body) {
    let rest = async {
        let mut left = REST_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(less) => left = less,
                None => break,
            }
        }
    };
    let _ = tokio::time::timeout(REST_WAIT, rest).await;
}

/// Returns the media type without parameters, in lower case; none if no content type is given.
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or("?");
    Some(value.split(';').next().unwrap_or("").trim().to_ascii_lowercase())
}

/// True for `application/json` and `…+json`.
pub fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || (media_type.ends_with("+json") && media_type.contains('/'))
}

/// Refuses a body that says to be anything but JSON. A page in a browser can send forms and plain text
/// across origins without asking, JSON it cannot.
pub fn want_json(headers: &HeaderMap) -> Result<(), ApiError> {
    match media_type(headers) {
        Some(other) if !is_json(&other) => Err(unsupported(&other, "application/json")),
        _ => Ok(()),
    }
}

/// Makes the answer to a content type that is not taken.
pub fn unsupported(given: &str, taken: &str) -> ApiError {
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", format!("`{given}` is not taken here"))
        .detail(format!("send {taken}, with curl: -H 'content-type: {}'", taken.split(' ').next().unwrap_or(taken)))
}

/// Parses bytes as one JSON document that this program can also read back.
pub fn parse_json(bytes: &[u8]) -> Result<Payload, ApiError> {
    Payload::parse(check_json(bytes)?).map_err(|error| malformed(error.to_string()))
}

/// Parses bytes into a type; what does not fit is told with line and column.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_str(check_json(bytes)?).map_err(|error| ApiError::bad_request(error.to_string()))
}

fn malformed(detail: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "malformed-json", "the body is not JSON").detail(detail)
}

/// Checks that bytes are one JSON document, not too deep and with numbers that can be read. A raw value
/// alone would let 1e999 and any depth through, and what reads it later would find nothing.
fn check_json(bytes: &[u8]) -> Result<&str, ApiError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| malformed(format!("it is not UTF-8 from byte {} on", error.valid_up_to())))?;
    if let Some(at) = too_deep(text) {
        return Err(malformed(format!("it is nested deeper than {JSON_DEPTH_MAX} levels at byte {at}")));
    }
    serde_json::from_str::<Checked>(text).map_err(|error| malformed(error.to_string()))?;
    Ok(text)
}

/// Any JSON value, read and forgotten.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Check)
    }
}

struct Check;

impl<'de> Visitor<'de> for Check {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
        Ok(Checked)
    }
    fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked)
    }
    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Checked, A::Error> {
        while items.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Checked, A::Error> {
        while members.next_entry::<Checked, Checked>()?.is_some() {}
        Ok(Checked)
    }
}

/// Returns the byte at which brackets outside strings are nested too deep.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Some(at);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Checks a key, id or source: not empty, bounded, no control characters.
pub fn check_text(what: &str, text: &str) -> Result<(), ApiError> {
    let refused = |reason: String| Err(ApiError::bad_request(format!("`{what}` {reason}")));
    if text.is_empty() {
        return refused("is empty; leave it out instead".into());
    }
    if text.len() > TEXT_BYTES_MAX {
        return refused(format!("has {} bytes; at most {TEXT_BYTES_MAX} are taken", text.len()));
    }
    if text.chars().any(char::is_control) {
        return refused("holds control characters".into());
    }
    Ok(())
}

/// One part of the path, decoded.
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        Ok(Self(text))
    }
}

/// The query, read into a type that refuses unknown names.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Query(asked) = Query::<T>::try_from_uri(&parts.uri).map_err(|rejection| {
            ApiError::new(StatusCode::BAD_REQUEST, "bad-query", "the query is not understood")
                .detail(rejection.body_text())
        })?;
        Ok(Self(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_with_its_position() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let rows: &[(&str, String, Option<&str>)] = &[
            ("plain", r#"{"a": [1, "x"]}"#.into(), None),
            ("as deep as allowed", deep(JSON_DEPTH_MAX), None),
            ("one deeper", deep(JSON_DEPTH_MAX + 1), Some("nested deeper than 100 levels at byte 100")),
            ("a million brackets", "[".repeat(1_000_000), Some("nested deeper")),
            ("brackets in a string are text", format!("\"{}\\\"[\"", "[".repeat(200)), None),
            ("cut off", "{\"a\":".into(), Some("line 1 column 5")),
            ("second line", "{\n  \"a\" 1}".into(), Some("line 2 column 7")),
            ("two documents", "{} {}".into(), Some("trailing characters at line 1 column 4")),
            ("a number that nothing can read", "[1e999]".into(), Some("number out of range")),
            ("a large number is only long", "[123456789012345678901234567890.5]".into(), None),
            ("half a surrogate pair", r#"["\ud800"]"#.into(), Some("hex escape")),
            ("a member without a name", "{1: 2}".into(), Some("key must be a string")),
            ("empty", String::new(), Some("EOF")),
        ];
        for (why, text, refused) in rows {
            match (parse_json(text.as_bytes()), refused) {
                (Ok(_), None) => {}
                (Err(error), Some(part)) => {
                    let detail = error.details().detail.clone().unwrap();
                    assert!(detail.contains(part), "{why}: {detail}");
                }
                (result, _) => panic!("{why}: {result:?}"),
            }
        }
        assert!(parse_json(b"\"\xff\"").unwrap_err().details().detail.as_ref().unwrap().contains("byte 1"));
    }

    #[test]
    fn content_types() {
        let rows: &[(&str, Option<&str>, bool)] = &[
            ("none given", None, true),
            ("JSON", Some("application/json"), true),
            ("with a charset", Some("Application/JSON; charset=utf-8"), true),
            ("structured", Some("application/cloudevents+json"), true),
            ("what curl -d sends", Some("application/x-www-form-urlencoded"), false),
            ("what a form can send", Some("text/plain"), false),
            ("no type at all", Some("+json"), false),
        ];
        for (why, given, taken) in rows {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(header::CONTENT_TYPE, given.parse().unwrap());
            }
            assert_eq!(want_json(&headers).is_ok(), *taken, "{why}");
        }
    }

    #[tokio::test]
    async fn bodies_are_bounded_with_and_without_a_length() {
        let mut headers = HeaderMap::new();
        assert_eq!(read(&headers, Body::from("12345"), 5).await.unwrap(), "12345");
        assert_eq!(read(&headers, Body::from("123456"), 5).await.unwrap_err().details().status, 413);
        headers.insert(header::CONTENT_LENGTH, 6.into());
        assert_eq!(read(&headers, Body::empty(), 5).await.unwrap_err().details().status, 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_awaited_for_ever() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(&HeaderMap::new(), never, 5).await.unwrap_err().details().status, 408);
    }
}
