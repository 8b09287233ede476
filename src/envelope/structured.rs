//! Structured mode and batches: a whole CloudEvent as JSON (the CloudEvents JSON format 1.0).

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Event;
use super::attributes::{Attributes, Media, media_type};
use super::base64;
use super::binary::not_read;
use crate::payload::Payload;

/// Members of one event object; far above the attributes that an event may have.
const MEMBERS_MAX: usize = 128;

/// True for the content type of structured mode, in any case and with parameters.
#[must_use]
pub fn is_structured(content_type: &str) -> bool {
    essence(content_type) == "application/cloudevents+json"
}

/// True for the content type of a batch of events.
#[must_use]
pub fn is_batch(content_type: &str) -> bool {
    essence(content_type) == "application/cloudevents-batch+json"
}

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads one event. The data keeps its text, digits included.
///
/// # Errors
/// All mistakes, one line each.
pub fn parse(json: &[u8]) -> Result<Event, Vec<String>> {
    event(json)
}

/// Reads a JSON array of events, in order; one mistake refuses the whole batch.
///
/// # Errors
/// All mistakes of all events, one line each, with the event's index from 0; none for the batch as a whole.
pub fn parse_batch(json: &[u8]) -> Result<Vec<Event>, Vec<(Option<usize>, String)>> {
    let items: Vec<&RawValue> =
        serde_json::from_slice(json).map_err(|error| vec![(None, format!("the batch is no JSON array: {error}"))])?;
    let (mut events, mut mistakes) = (Vec::with_capacity(items.len()), Vec::new());
    for (index, item) in items.iter().enumerate() {
        match event(item.get().as_bytes()) {
            Ok(event) => events.push(event),
            Err(found) => mistakes.extend(found.into_iter().map(|mistake| (Some(index), mistake))),
        }
    }
    if mistakes.is_empty() { Ok(events) } else { Err(mistakes) }
}

/// An object's members in order, duplicates included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object: one CloudEvent")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() == MEMBERS_MAX {
                        return Err(serde::de::Error::custom(format!("more than {MEMBERS_MAX} members")));
                    }
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn event(json: &[u8]) -> Result<Event, Vec<String>> {
    let Members(members) =
        serde_json::from_slice(json).map_err(|error| vec![format!("no CloudEvent in JSON: {error}")])?;
    let mut attributes = Attributes::default();
    let (mut data, mut base64) = (None, None);
    for (name, value) in members {
        match name.as_str() {
            "data" | "data_base64" => {
                let place = if name == "data" { &mut data } else { &mut base64 };
                if place.replace(value).is_some() {
                    attributes.mistake(format!("`{name}` is given more than once"));
                }
            }
            _ => match text_of(&name, value) {
                Ok(Some(text)) => attributes.set(&name, text),
                Ok(None) => {} // null is the same as absent
                Err(mistake) => attributes.spoiled(&name, mistake),
            },
        }
    }
    let base64 = base64.filter(|value| value.get() != "null");
    let data = match (data, base64) {
        (Some(_), Some(_)) => Err("both `data` and `data_base64` are given".to_owned()),
        (None, Some(value)) => data_of_base64(attributes.get("datacontenttype"), value),
        (Some(value), None) => data_of(attributes.get("datacontenttype"), value),
        (None, None) => Ok(Payload::null()),
    };
    attributes.finish(data)
}

/// Returns an attribute's text form (CloudEvents 1.0, type system). Those of the specification are
/// strings in JSON; extensions may be booleans and whole numbers too.
fn text_of(name: &str, value: &RawValue) -> Result<Option<String>, String> {
    let text = value.get();
    let own = matches!(name, "id" | "source" | "specversion" | "type" | "time" | "subject" | "dataschema");
    match text.as_bytes()[0] {
        b'n' => Ok(None),
        b'"' => serde_json::from_str(text).map(Some).map_err(|error| format!("`{name}` is no string: {error}")),
        b't' | b'f' if !own => Ok(Some(text.to_owned())),
        b'-' | b'0'..=b'9' if !own && text.parse::<i32>().is_ok() => Ok(Some(text.to_owned())),
        _ if own => Err(format!("`{name}` is no string")),
        _ => {
            Err(format!("`{}` is no string, boolean or 32-bit whole number", name.chars().take(40).collect::<String>()))
        }
    }
}

fn data_of(content_type: Option<&str>, value: &RawValue) -> Result<Payload, String> {
    let json = || Payload::parse(value.get()).map_err(|error| format!("`data` is no JSON: {error}"));
    match content_type.map(|kind| (kind, media_type(kind))) {
        None | Some((_, Some(Media::Json) | None)) => json(),
        Some((_, Some(Media::Text))) if value.get().starts_with('"') => json(),
        Some((kind, Some(Media::Text))) => Err(format!("`data` of type `{kind}` is no string")),
        Some((kind, Some(Media::Other))) => Err(not_read(kind)),
    }
}

fn data_of_base64(content_type: Option<&str>, value: &RawValue) -> Result<Payload, String> {
    let text: String =
        serde_json::from_str(value.get()).map_err(|error| format!("`data_base64` is no string: {error}"))?;
    let bytes = base64::decode(&text).ok_or("`data_base64` is no Base64")?;
    let text = String::from_utf8(bytes).map_err(|error| format!("the data is no UTF-8: {error}"));
    match content_type.map(|kind| (kind, media_type(kind))) {
        Some((_, Some(Media::Json))) => Payload::parse(text?).map_err(|error| format!("the data is no JSON: {error}")),
        Some((_, Some(Media::Text))) => Ok(Payload::of(&text?)),
        Some((kind, _)) => Err(not_read(kind)),
        None => {
            Err("`data_base64` without `datacontenttype`: bytes are not read; events carry JSON or text".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_mistakes() {
        let base = r#""specversion":"1.0","id":"1","source":"/s","type":"a.b.v1""#;
        let rows: &[(&str, &str, Result<&str, &str>)] = &[
            ("no data", "", Ok("null")),
            (
                "digits are kept",
                r#","data":{"a": 1.50, "b": 123456789012345678901}"#,
                Ok(r#"{"a": 1.50, "b": 123456789012345678901}"#),
            ),
            ("null data", r#","data":null"#, Ok("null")),
            (
                "JSON in Base64",
                r#","datacontenttype":"application/json","data_base64":"eyAieHl6IjogMTIzIH0=""#,
                Ok(r#"{ "xyz": 123 }"#),
            ),
            ("text in Base64", r#","datacontenttype":"text/plain","data_base64":"TWFu""#, Ok(r#""Man""#)),
            ("bytes", r#","data_base64":"TWFu""#, Err("bytes are not read")),
            ("both", r#","data":1,"data_base64":"TWFu""#, Err("both")),
            ("a member twice", r#","id":"2""#, Err("`id` is given more than once")),
            ("a fraction as extension", r#","ext":1.5"#, Err("`ext`")),
            ("a whole number too large", r#","ext":3000000000"#, Err("`ext`")),
            ("text that is an object", r#","datacontenttype":"text/plain","data":{}"#, Err("is no string")),
        ];
        for (why, more, expected) in rows {
            match (parse(format!("{{{base}{more}}}").as_bytes()), expected) {
                (Ok(event), Ok(data)) => assert_eq!(event.data.text(), *data, "{why}"),
                (Err(mistakes), Err(part)) => assert!(mistakes.join("; ").contains(part), "{why}: {mistakes:?}"),
                (got, _) => panic!("{why}: {got:?}"),
            }
        }
        for (why, text) in [("array", "[]"), ("empty", ""), ("cut off", "{\"id\":"), ("not UTF-8", "\u{0}")] {
            assert!(parse(text.as_bytes()).is_err(), "{why}");
        }
        let deep = format!("{{{base},\"data\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(deep.as_bytes()).unwrap_err()[0].contains("nested"));
    }

    /// The conformance vectors, with types that end in a version, as ours must.
    fn vectors(file: &str) -> Vec<serde_json::Value> {
        let path = format!("{}/tests/vectors/cloudevents/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap().replace("io.cloudevents.test", "io.cloudevents.test.v1");
        let tests: serde_json::Value = serde_json::from_str(&text).unwrap();
        tests["tests"].as_array().unwrap().clone()
    }

    #[test]
    fn conformance_vectors() {
        let mut count = 0;
        for (file, member, valid) in [
            ("valid-events.json", "event", true),
            ("invalid-events.json", "event", false),
            ("valid-batches.json", "batch", true),
            ("invalid-batches.json", "batch", false),
        ] {
            for test in vectors(file) {
                let text = test[member].to_string();
                let mistakes = match member {
                    "event" => parse(text.as_bytes()).err(),
                    _ => {
                        parse_batch(text.as_bytes()).err().map(|found| found.into_iter().map(|(_, why)| why).collect())
                    }
                };
                assert_eq!(mistakes.is_none(), valid, "{}: {mistakes:?}", test["id"]);
                count += 1;
            }
        }
        assert_eq!(count, 43);
        let extensions = vectors("valid-events.json");
        let all = extensions.iter().find(|test| test["id"] == "validAllExtensionTypes").unwrap();
        let event = parse(all["event"].to_string().as_bytes()).unwrap();
        assert_eq!(event.extensions["extinteger"], "10");
        assert_eq!(event.extensions["extboolean"], "true");
    }

    #[test]
    fn what_we_show_is_what_we_read() {
        let text = r#"{"specversion":"1.0","id":"1","source":"/s","type":"a.b.v1","correlationid":"c","ext":"e","data":{"a":1}}"#;
        let event = parse(text.as_bytes()).unwrap();
        assert_eq!(parse(event.to_cloud_event().text().as_bytes()).unwrap(), event);
    }
}
