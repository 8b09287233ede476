//! What a GraphQL answer says about the effect (GraphQL over HTTP, section "Response"): without `data` nothing was
//! executed; with `data` and `errors` a part of it was, and which is not said.

use http::StatusCode;

use super::classify::{PROBLEM_TEXT_CHARS_MAX, Raw, headers, media_type};
use crate::payload::Payload;
use crate::problem::{Problem, kind};
use crate::request::{Again, Answer, Attempt, Effect};

/// A response, as far as the judgement needs it.
#[derive(serde::Deserialize)]
pub(super) struct Response {
    #[serde(default, deserialize_with = "there")]
    data: bool,
    /// Some servers write null where there are none.
    #[serde(default)]
    errors: Option<Vec<serde_json::Value>>,
}

impl Response {
    fn has_errors(&self) -> bool {
        self.errors.as_ref().is_some_and(|errors| !errors.is_empty())
    }
}

/// True for whatever stands there, be it null.
fn there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    <serde::de::IgnoredAny as serde::Deserialize>::deserialize(deserializer).map(|_| true)
}

/// Reads an answer that is GraphQL's: the media type of its own with any status, or plain JSON with a success. What
/// something on the way answered is judged as over http.
pub(super) fn read(raw: &Raw, body: &Payload) -> Option<Response> {
    let own = media_type(&raw.headers).as_deref() == Some("application/graphql-response+json");
    if !own && !raw.status.is_success() {
        return None;
    }
    body.read::<Response>().ok().filter(|response| response.data || response.has_errors())
}

/// Judges it.
pub(super) fn answered(raw: &Raw, body: Payload, response: Response) -> Attempt {
    let (effect, again) = match (response.data, response.has_errors()) {
        (true, false) => (Effect::Done, Again::No),
        (true, true) => (Effect::Maybe, Again::Yes),
        // A request that cannot be read or is not allowed; a limit is for a while.
        (false, _) if raw.status == StatusCode::TOO_MANY_REQUESTS => (Effect::None, Again::Yes),
        (false, _) => (Effect::None, Again::No),
    };
    let answer = Answer { status: raw.status.as_u16(), headers: headers(&raw.headers), body };
    let problem = (effect != Effect::Done).then(|| {
        let kind = if effect == Effect::None { kind::REFUSED } else { kind::UNKNOWN };
        let mut errors = response.errors.iter().flatten();
        let words = errors.find_map(|error| error.get("message")?.as_str()).unwrap_or("the answer has errors");
        let mut problem = Problem::new(kind, words.chars().take(PROBLEM_TEXT_CHARS_MAX).collect::<String>());
        problem.status = Some(answer.status);
        problem.result = Some(Payload::of(&answer));
        problem
    });
    Attempt { effect, again, answer: Some(answer), problem, retry_after: None }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use http::HeaderMap;

    use super::super::classify;
    use super::*;
    use crate::service::Protocol;

    #[test]
    fn answers() {
        const OWN: &str = "application/graphql-response+json";
        const JSON: &str = "application/json";
        use Effect::{Done, Maybe, None as Nothing};
        /// Why, status, media type, body; the effect, whether again, the problem's title.
        type Row<'a> = (&'a str, u16, &'a str, &'a str, (Effect, Again, &'a str));
        let rows: &[Row<'_>] = &[
            ("data", 200, OWN, r#"{"data":{"a":1}}"#, (Done, Again::No, "")),
            ("no errors, written out", 200, JSON, r#"{"data":{"a":1},"errors":null}"#, (Done, Again::No, "")),
            ("no errors in a list", 200, JSON, r#"{"data":{"a":1},"errors":[]}"#, (Done, Again::No, "")),
            ("partly", 200, OWN, r#"{"data":{"a":null},"errors":[{"message":"no"}]}"#, (Maybe, Again::Yes, "no")),
            ("data is null", 200, OWN, r#"{"data":null,"errors":[{"message":"no"}]}"#, (Maybe, Again::Yes, "no")),
            ("not executed", 400, OWN, r#"{"errors":[{"message":"no field x"}]}"#, (Nothing, Again::No, "no field x")),
            (
                "not executed, by an older server",
                200,
                JSON,
                r#"{"errors":[{}]}"#,
                (Nothing, Again::No, "the answer has errors"),
            ),
            ("too many", 429, OWN, r#"{"errors":[{"message":"slowly"}]}"#, (Nothing, Again::Yes, "slowly")),
            ("a proxy's", 502, JSON, r#"{"errors":[{"message":"no"}]}"#, (Maybe, Again::Yes, "502 Bad Gateway")),
            ("a proxy's refusal", 403, "text/html", "no", (Nothing, Again::No, "403 Forbidden")),
            ("no response at all", 200, JSON, "{}", (Maybe, Again::Yes, "200 but the answer is no GraphQL response")),
        ];
        for (why, status, media, body, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::CONTENT_TYPE, media.parse().unwrap());
            let status = StatusCode::from_u16(*status).unwrap();
            let raw = Raw { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) };
            let got = classify::answered(raw, SystemTime::UNIX_EPOCH, Protocol::Graphql);
            let title = got.problem.as_ref().map_or("", |problem| problem.title.as_str());
            assert_eq!((got.effect, got.again, title), *expected, "{why}");
        }
    }
}
