//! SOAP 1.1 over http: the envelope around a body, and what an answer's envelope says about the effect. A fault that
//! blames the caller is a refusal; one of the service leaves it in doubt.

use serde_json::Value;

use super::classify::{PROBLEM_TEXT_CHARS_MAX, Raw, headers, media_type};
use crate::payload::Payload;
use crate::problem::{Problem, kind};
use crate::request::{Again, Answer, Attempt, Effect};
use crate::xml;

/// Codes of SOAP 1.1 and 1.2 that say that the request is wrong.
const CALLERS: [&str; 5] = ["Client", "Sender", "MustUnderstand", "VersionMismatch", "DataEncodingUnknown"];

/// Writes the envelope of a request.
///
/// # Errors
/// One line: what in the body has no form in XML.
pub(super) fn envelope(body: Option<&Payload>) -> Result<String, String> {
    let content = body.map(xml::write).transpose()?.unwrap_or_default();
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\
         <soap:Body>{content}</soap:Body></soap:Envelope>"
    ))
}

pub(super) enum Response {
    /// The content of the body.
    Body(Value),
    Fault {
        /// It is the request that is wrong.
        callers: bool,
        words: String,
        body: Value,
    },
}

/// Reads an answer's envelope, of SOAP 1.1 or 1.2; none where a failure says that it is no XML: what something on the
/// way answered is judged as over http.
pub(super) fn read(raw: &Raw) -> Option<Result<Response, String>> {
    let is_xml = media_type(&raw.headers).is_none_or(|media| media.ends_with("xml"));
    if !is_xml && !raw.status.is_success() {
        return None;
    }
    let text = match std::str::from_utf8(&raw.body) {
        Ok(text) => text.trim_start_matches('\u{feff}'),
        Err(error) => return Some(Err(format!("the answer is no UTF-8: {error}"))),
    };
    let (name, envelope) = match xml::read(text) {
        Ok(found) => found,
        Err(error) => return Some(Err(format!("the answer is no XML that can be read: {error}"))),
    };
    if name != "Envelope" {
        return Some(Err("the answer is no SOAP envelope".to_owned()));
    }
    let body = envelope.get("Body").cloned().unwrap_or(Value::Null);
    let Some(fault) = body.get("Fault") else { return Some(Ok(Response::Body(body))) };
    let text = |pointer: &str| match fault.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Object(members) => members.get("#text").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let code = text("/faultcode").or_else(|| text("/Code/Value")).unwrap_or_default();
    // A prefix before it, and a code of the service's own behind a dot.
    let local = code.rsplit(':').next().unwrap_or_default();
    let callers = CALLERS.contains(&local.split('.').next().unwrap_or_default().trim());
    let words = text("/faultstring").or_else(|| text("/Reason/Text")).unwrap_or_else(|| format!("a fault: {local}"));
    Some(Ok(Response::Fault { callers, words, body }))
}

/// Judges it.
pub(super) fn answered(raw: &Raw, response: Response) -> Attempt {
    let answer =
        |body: &Value| Answer { status: raw.status.as_u16(), headers: headers(&raw.headers), body: Payload::of(body) };
    match response {
        Response::Body(body) => Attempt {
            effect: Effect::Done,
            again: Again::No,
            answer: Some(answer(&body)),
            problem: None,
            retry_after: None,
        },
        Response::Fault { callers, words, body } => {
            let (effect, again, kind) = if callers {
                (Effect::None, Again::No, kind::REFUSED)
            } else {
                (Effect::Maybe, Again::Yes, kind::UNKNOWN)
            };
            let answer = answer(&body);
            let mut problem = Problem::new(kind, words.chars().take(PROBLEM_TEXT_CHARS_MAX).collect::<String>());
            problem.status = Some(answer.status);
            problem.result = Some(Payload::of(&answer));
            Attempt { effect, again, answer: Some(answer), problem: Some(problem), retry_after: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::super::classify;
    use super::*;
    use crate::service::Protocol;

    fn soap(body: &str) -> String {
        format!("<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body>{body}</s:Body></s:Envelope>")
    }

    fn fault(code: &str) -> String {
        soap(&format!("<s:Fault><faultcode>{code}</faultcode><faultstring>no</faultstring></s:Fault>"))
    }

    #[test]
    fn answers() {
        use Effect::{Done, Maybe, None as Nothing};
        let newer = soap(
            "<s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code><s:Reason><s:Text xml:lang='en'>no</s:Text></s:Reason></s:Fault>",
        );
        let no_envelope = "200 but the answer is no SOAP envelope";
        let rows = [
            ("done", 200, "text/xml", soap("<m:Charged><id>7</id></m:Charged>"), (Done, Again::No, "")),
            ("the caller's fault", 500, "text/xml", fault("s:Client"), (Nothing, Again::No, "no")),
            ("a code of its own", 500, "text/xml", fault("s:Client.Funds"), (Nothing, Again::No, "no")),
            ("the service's fault", 500, "text/xml", fault("s:Server"), (Maybe, Again::Yes, "no")),
            ("SOAP 1.2", 400, "application/soap+xml", newer, (Nothing, Again::No, "no")),
            ("no envelope", 200, "text/xml", "<a/>".to_owned(), (Maybe, Again::Yes, no_envelope)),
            ("a proxy's", 502, "text/html", "<html>".to_owned(), (Maybe, Again::Yes, "502 Bad Gateway")),
            ("a proxy's refusal", 403, "text/html", "<html>".to_owned(), (Nothing, Again::No, "403 Forbidden")),
        ];
        for (why, status, media, body, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::CONTENT_TYPE, media.parse().unwrap());
            let raw = Raw { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::from(body) };
            let got = classify::answered(raw, SystemTime::UNIX_EPOCH, Protocol::Soap);
            let title = got.problem.as_ref().map_or("", |problem| problem.title.as_str());
            assert_eq!((got.effect, got.again, title), expected, "{why}");
            if got.effect == Done {
                assert_eq!(got.answer.unwrap().body.text(), r#"{"Charged":{"id":"7"}}"#);
            }
        }
    }
}
