//! What an answer says about the effect: the http column of the table "Outcome of a call".

use std::time::SystemTime;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use super::graphql;
use super::retry_after::retry_after;
use super::soap;
use crate::payload::Payload;
use crate::problem::{Problem, kind};
use crate::request::{Again, Answer, Attempt, Effect};
use crate::service::Protocol;

/// Titles and details of a participant's problem go into lists and logs; more is cut off.
pub(super) const PROBLEM_TEXT_CHARS_MAX: usize = 1_000;

/// A whole answer as it came.
pub(super) struct Raw {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Judges a whole answer. `now` is for a `Retry-After` that is a date.
pub(super) fn answered(raw: Raw, now: SystemTime, protocol: Protocol) -> Attempt {
    let mut body = body(&raw);
    if protocol == Protocol::Graphql
        && let Some(response) = body.as_ref().ok().and_then(|body| graphql::read(&raw, body))
    {
        return graphql::answered(&raw, body.unwrap_or_else(|_| Payload::null()), response);
    }
    if protocol == Protocol::Soap {
        match soap::read(&raw) {
            Some(Ok(response)) => return soap::answered(&raw, response),
            Some(Err(why)) if raw.status.is_success() => body = Err(why),
            Some(Err(_)) | None => {}
        }
    }
    if protocol == Protocol::Graphql && body.is_ok() && raw.status.is_success() {
        body = Err("the answer is no GraphQL response".to_owned());
    }
    let readable = body.is_ok();
    let after = retry_after(&raw.headers, now);
    let (effect, again) = match raw.status.as_u16() {
        200..=299 if readable => (Effect::Done, Again::No),
        425 | 429 => (Effect::None, Again::Yes),
        503 if after.is_some() => (Effect::None, Again::Yes),
        408 => (Effect::Maybe, Again::Yes),
        400..=499 => (Effect::None, Again::No),
        _ => (Effect::Maybe, Again::Yes),
    };
    let status = raw.status.as_u16();
    let answer = Answer {
        status,
        headers: headers(&raw.headers),
        // Of what cannot be read, `$result` shows the text.
        body: body.clone().unwrap_or_else(|_| text(&raw.body)),
    };
    let problem = match effect {
        Effect::Done => None,
        Effect::None => Some(problem(&raw, &answer, kind::REFUSED, None)),
        Effect::Maybe => Some(problem(&raw, &answer, kind::UNKNOWN, body.err())),
    };
    let retry_after = after.filter(|_| matches!(status, 425 | 429 | 503));
    Attempt { effect, again, answer: Some(answer), problem, retry_after }
}

/// Reads the body: JSON where it says so or says nothing, else a string; empty is null.
fn body(raw: &Raw) -> Result<Payload, String> {
    let bytes = raw.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&raw.body);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Payload::null());
    }
    match media_type(&raw.headers).as_deref() {
        Some(media) if media == "application/json" || media == "text/json" || media.ends_with("+json") => json(bytes),
        Some(_) => Ok(text(bytes)),
        None => Ok(json(bytes).unwrap_or_else(|_| text(bytes))),
    }
}

fn json(bytes: &[u8]) -> Result<Payload, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("the answer is no UTF-8: {error}"))?;
    Payload::parse(text).map_err(|error| format!("the answer is no JSON that can be read: {error}"))
}

fn text(bytes: &[u8]) -> Payload {
    Payload::of(&*String::from_utf8_lossy(bytes))
}

/// Returns `application/json` of `Application/JSON; charset=utf-8`.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()).filter(|media| !media.is_empty())
}

/// As `$result.headers`, without cookies: those are secrets, and answers lie in the journal.
pub(super) fn headers(headers: &HeaderMap) -> std::collections::BTreeMap<String, String> {
    let mut shown = std::collections::BTreeMap::<String, String>::new();
    for (name, value) in headers.iter().filter(|(name, _)| *name != http::header::SET_COOKIE) {
        let value = String::from_utf8_lossy(value.as_bytes());
        shown
            .entry(name.as_str().to_owned())
            .and_modify(|values| {
                values.push_str(", ");
                values.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    shown
}

#[derive(serde::Deserialize)]
struct ProblemFields {
    #[serde(rename = "type")]
    kind: Option<serde_json::Value>,
    title: Option<serde_json::Value>,
    detail: Option<serde_json::Value>,
}

/// The participant's own words where it has some, else ours. Only a refusal's type is taken over: of
/// an attempt in doubt the type is that it is in doubt.
fn problem(raw: &Raw, answer: &Answer, kind: &str, unreadable: Option<String>) -> Problem {
    let status = raw.status;
    let title = match (status.canonical_reason(), &unreadable) {
        (_, Some(reason)) => format!("{} but {reason}", status.as_u16()),
        (Some(words), None) => format!("{} {words}", status.as_u16()),
        (None, None) => status.as_u16().to_string(),
    };
    let mut problem = Problem::new(kind, title);
    if media_type(&raw.headers).as_deref() == Some("application/problem+json")
        && let Ok(fields) = answer.body.read::<ProblemFields>()
    {
        let words = |value: Option<serde_json::Value>| {
            let text = value.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
            Some(text.chars().take(PROBLEM_TEXT_CHARS_MAX).collect::<String>()).filter(|text| !text.is_empty())
        };
        let own_kind = words(fields.kind).filter(|word| word != "about:blank" && kind == self::kind::REFUSED);
        problem.kind = own_kind.unwrap_or(problem.kind);
        problem.title = words(fields.title).unwrap_or(problem.title);
        problem.detail = words(fields.detail);
    }
    problem.status = Some(status.as_u16());
    problem.result = Some(Payload::of(answer));
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, media: Option<&str>, retry_after: Option<&str>, body: &[u8]) -> Attempt {
        let mut headers = HeaderMap::new();
        if let Some(media) = media {
            headers.insert(CONTENT_TYPE, media.parse().unwrap());
        }
        if let Some(after) = retry_after {
            headers.insert(http::header::RETRY_AFTER, after.parse().unwrap());
        }
        let raw = Raw { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::copy_from_slice(body) };
        answered(raw, SystemTime::UNIX_EPOCH, Protocol::Http)
    }

    #[test]
    fn statuses() {
        use Again::{No, Yes};
        use Effect::{Done, Maybe, None as Nothing};
        for (status, expected) in [
            (200, (Done, No)),
            (201, (Done, No)),
            (204, (Done, No)),
            (301, (Maybe, Yes)),
            (302, (Maybe, Yes)),
            (304, (Maybe, Yes)),
            (307, (Maybe, Yes)),
            (400, (Nothing, No)),
            (401, (Nothing, No)),
            (404, (Nothing, No)),
            (408, (Maybe, Yes)),
            (409, (Nothing, No)),
            (422, (Nothing, No)),
            (425, (Nothing, Yes)),
            (429, (Nothing, Yes)),
            (499, (Nothing, No)),
            (500, (Maybe, Yes)),
            (502, (Maybe, Yes)),
            (503, (Maybe, Yes)),
            (504, (Maybe, Yes)),
            (599, (Maybe, Yes)),
            (999, (Maybe, Yes)),
        ] {
            let attempt = judged(status, None, None, b"");
            assert_eq!((attempt.effect, attempt.again), expected, "{status}");
            assert_eq!(attempt.problem.is_some(), expected.0 != Done, "{status}");
        }
    }

    #[test]
    fn bodies() {
        let json = Some("application/json");
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let rows = [
            ("JSON", json, b"{\"a\":1}".to_vec(), Some("{\"a\":1}".into())),
            ("JSON with a charset", Some("Application/JSON; charset=utf-8"), b"1.10".to_vec(), Some("1.10".into())),
            ("JSON of a kind", Some("application/hal+json"), b"[]".to_vec(), Some("[]".into())),
            ("byte order mark", json, b"\xef\xbb\xbf{}".to_vec(), Some("{}".into())),
            ("empty", json, b"".to_vec(), Some("null".into())),
            ("blank", json, b" \r\n".to_vec(), Some("null".into())),
            ("text", Some("text/plain"), b"o\"k".to_vec(), Some("\"o\\\"k\"".into())),
            ("JSON called text", Some("text/plain"), b"{}".to_vec(), Some("\"{}\"".into())),
            ("unnamed JSON", None, b"{}".to_vec(), Some("{}".into())),
            ("unnamed text", None, b"ok".to_vec(), Some("\"ok\"".into())),
            ("not UTF-8, but not JSON either", Some("image/png"), b"\x89P".to_vec(), Some("\"\u{fffd}P\"".into())),
            ("as deep as can be", json, deep(127).into_bytes(), Some(deep(127))),
            ("too deep", json, deep(128).into_bytes(), None),
            ("much too deep", json, deep(200_000).into_bytes(), None),
            (
                "brackets in a string",
                json,
                format!("\"\\\"{}\"", "[".repeat(500)).into_bytes(),
                Some(format!("\"\\\"{}\"", "[".repeat(500))),
            ),
            ("cut off", json, b"{\"a\":".to_vec(), None),
            ("two documents", json, b"{}{}".to_vec(), None),
            ("not UTF-8", json, b"\"\xff\"".to_vec(), None),
        ];
        for (why, media, body, expected) in rows {
            let attempt = judged(200, media, None, &body);
            let seen = attempt.answer.unwrap().body;
            match expected {
                Some(expected) => {
                    assert_eq!((attempt.effect, seen.text()), (Effect::Done, expected.as_str()), "{why}");
                    serde_json::from_str::<serde_json::Value>(seen.text()).expect(why);
                }
                None => assert_eq!((attempt.effect, attempt.again), (Effect::Maybe, Again::Yes), "{why}"),
            }
        }
    }

    #[test]
    fn retry_after_counts_where_it_says_so() {
        use Effect::{Maybe, None as Nothing};
        let rows = [
            ("425", 425, Some("2"), Nothing, Some(2_000)),
            ("429", 429, Some("2"), Nothing, Some(2_000)),
            ("429 with a date", 429, Some("Thu, 01 Jan 1970 00:00:03 GMT"), Nothing, Some(3_000)),
            ("429 without", 429, None, Nothing, None),
            ("429 with nonsense", 429, Some("soon"), Nothing, None),
            ("503", 503, Some("0"), Nothing, Some(0)),
            ("503 without", 503, None, Maybe, None),
            ("503 with nonsense", 503, Some("soon"), Maybe, None),
            ("500 may not say it", 500, Some("2"), Maybe, None),
            ("404 may not say it", 404, Some("2"), Nothing, None),
        ];
        for (why, status, value, effect, after) in rows {
            let attempt = judged(status, None, value, b"");
            assert_eq!((attempt.effect, attempt.retry_after.map(|span| span.0)), (effect, after), "{why}");
        }
    }

    #[test]
    fn problems() {
        let own = br#"{"type":"https://errors/no-stock","title":"No stock","detail":"2 left","x":1}"#;
        type Row = (&'static str, u16, &'static str, &'static [u8], (&'static str, &'static str, Option<&'static str>));
        let rows: &[Row] = &[
            ("its own", 409, "application/problem+json", own, ("https://errors/no-stock", "No stock", Some("2 left"))),
            ("other JSON", 409, "application/json", own, ("refused", "409 Conflict", None)),
            (
                "blank type",
                422,
                "application/problem+json",
                br#"{"type":"about:blank","title":"T"}"#,
                ("refused", "T", None),
            ),
            (
                "wrong types",
                422,
                "application/problem+json",
                br#"{"type":7,"title":[]}"#,
                ("refused", "422 Unprocessable Entity", None),
            ),
            ("no object", 422, "application/problem+json", b"[]", ("refused", "422 Unprocessable Entity", None)),
            ("not readable", 422, "application/problem+json", b"{", ("refused", "422 Unprocessable Entity", None)),
            ("in doubt stays in doubt", 500, "application/problem+json", own, ("unknown", "No stock", Some("2 left"))),
        ];
        for (why, status, media, body, expected) in rows {
            let problem = judged(*status, Some(media), None, body).problem.unwrap();
            assert_eq!((problem.kind.as_str(), problem.title.as_str(), problem.detail.as_deref()), *expected, "{why}");
            assert_eq!(problem.status, Some(*status), "{why}");
            assert_eq!(problem.result.unwrap().to_value()["status"], *status, "{why}");
        }
    }

    #[test]
    fn cookies_are_not_kept() {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", "session=hunter2".parse().unwrap());
        headers.append("etag", "\"1\"".parse().unwrap());
        headers.append("via", "a".parse().unwrap());
        headers.append("via", "b".parse().unwrap());
        let shown = super::headers(&headers);
        assert_eq!(shown.len(), 2);
        assert_eq!((shown["etag"].as_str(), shown["via"].as_str()), ("\"1\"", "a, b"));
    }
}
