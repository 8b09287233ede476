//! XML as JSON and back, as far as messages between programs need it. An object's members are elements in their order,
//! a list is an element for each item, `@name` is an attribute, `#text` the text beside attributes. Reading leaves
//! prefixes and declarations of namespaces out; what is text in XML is text in JSON.

use std::fmt;

use quick_xml::escape::escape;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::payload::Payload;

/// Elements inside elements; messages have some ten.
const DEPTH_MAX: usize = 64;

/// JSON whose members keep their order: a schema may ask for a sequence.
enum Json {
    Null,
    /// As XML writes it.
    Scalar(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Scalar(value.to_string()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Scalar(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Scalar(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Scalar(value.to_string()))
    }
    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Scalar(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Json::Object(object))
    }
}

/// Writes an object's members as elements.
///
/// # Errors
/// One line: what has no form in XML.
pub fn write(body: &Payload) -> Result<String, String> {
    let json: Json = body.read().map_err(|error| error.to_string())?;
    let mut out = String::new();
    match json {
        Json::Object(members) => {
            for (name, value) in &members {
                element(name, value, &mut out)?;
            }
        }
        Json::Null => {}
        Json::Scalar(_) | Json::List(_) => return Err("the body is an object of elements".to_owned()),
    }
    Ok(out)
}

fn element(name: &str, value: &Json, out: &mut String) -> Result<(), String> {
    check_name(name)?;
    match value {
        // `// null` leaves an element out.
        Json::Null => {}
        Json::List(items) => items.iter().try_for_each(|item| match item {
            Json::List(_) => Err(format!("a list in a list has no form in XML: `{name}`")),
            item => element(name, item, out),
        })?,
        Json::Scalar(text) => {
            out.push_str(&format!("<{name}>{}</{name}>", characters(text)?));
        }
        Json::Object(members) => {
            out.push_str(&format!("<{name}"));
            for (key, value) in members {
                let Some(attribute) = key.strip_prefix('@') else { continue };
                check_name(attribute)?;
                match value {
                    Json::Scalar(text) => out.push_str(&format!(" {attribute}=\"{}\"", characters(text)?)),
                    Json::Null => {}
                    Json::List(_) | Json::Object(_) => return Err(format!("the attribute `{key}` is no text")),
                }
            }
            out.push('>');
            for (key, value) in members.iter().filter(|(key, _)| !key.starts_with('@')) {
                match (key.as_str(), value) {
                    ("#text", Json::Scalar(text)) => out.push_str(&characters(text)?),
                    ("#text", _) => return Err(format!("`#text` of `{name}` is no text")),
                    (key, value) => element(key, value, out)?,
                }
            }
            out.push_str(&format!("</{name}>"));
        }
    }
    Ok(())
}

/// Escapes text; XML 1.0 has no form for most control characters.
fn characters(text: &str) -> Result<String, String> {
    match text
        .chars()
        .find(|c| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}'))
    {
        Some(c) => Err(format!("XML cannot hold {}", c.escape_default())),
        None => Ok(escape(text).into_owned()),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_'))
    };
    let is_one = match name.split_once(':') {
        Some((prefix, local)) => part(prefix) && part(local),
        None => part(name),
    };
    if is_one { Ok(()) } else { Err(format!("`{}` is no name of an element", name.escape_debug())) }
}

/// An element while it is read.
#[derive(Default)]
struct Open {
    name: String,
    members: Map<String, Value>,
    text: String,
    nil: bool,
}

/// Reads a document: the root's name without its prefix, and its content.
///
/// # Errors
/// One line: why it cannot be read.
pub fn read(text: &str) -> Result<(String, Value), String> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Open> = Vec::new();
    loop {
        let event = reader.read_event().map_err(|error| error.to_string())?;
        let closed = match event {
            Event::Start(start) => {
                if open.len() >= DEPTH_MAX {
                    return Err(format!("it is nested deeper than {DEPTH_MAX}"));
                }
                open.push(begun(&start)?);
                None
            }
            Event::Empty(start) => Some(begun(&start)?),
            Event::End(_) => open.pop(),
            Event::Text(text) => {
                if let Some(inner) = open.last_mut() {
                    inner.text.push_str(&text.xml10_content());
                }
                None
            }
            Event::CData(text) => {
                if let Some(inner) = open.last_mut() {
                    inner.text.push_str(&text.xml10_content());
                }
                None
            }
            Event::GeneralRef(entity) => {
                let name = entity.xml10_content();
                let found = match entity.resolve_char_ref().map_err(|error| error.to_string())? {
                    Some(c) => Some(c.to_string()),
                    None => quick_xml::escape::resolve_predefined_entity(&name).map(str::to_owned),
                };
                let found = found.ok_or_else(|| format!("there is no entity `{name}`"))?;
                if let Some(inner) = open.last_mut() {
                    inner.text.push_str(&found);
                }
                None
            }
            // It could define entities that grow without end, or name files.
            Event::DocType(_) => return Err("a document type is not taken".to_owned()),
            Event::Eof => return Err("it ends too early".to_owned()),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => None,
        };
        let Some(closed) = closed else { continue };
        let (name, value) = (closed.name.clone(), value_of(closed));
        match open.last_mut() {
            None => return Ok((name, value)),
            Some(around) => insert(&mut around.members, name, value),
        }
    }
}

fn begun(start: &BytesStart<'_>) -> Result<Open, String> {
    let mut open = Open { name: start.local_name().as_ref().to_owned(), ..Open::default() };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let name: &str = attribute.key.as_ref();
        if name == "xmlns" || name.starts_with("xmlns:") {
            continue;
        }
        let value =
            attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?.into_owned();
        let local = name.rsplit(':').next().unwrap_or(name);
        if local == "nil" && matches!(value.as_str(), "true" | "1") {
            open.nil = true;
            continue;
        }
        open.members.insert(format!("@{local}"), Value::String(value));
    }
    Ok(open)
}

fn value_of(closed: Open) -> Value {
    let Open { mut members, text, nil, .. } = closed;
    if nil {
        return Value::Null;
    }
    let blank = text.trim().is_empty();
    match (members.is_empty(), blank) {
        (true, true) if text.is_empty() => Value::Null,
        (true, _) => Value::String(text),
        (false, true) => Value::Object(members),
        (false, false) => {
            members.insert("#text".to_owned(), Value::String(text.trim().to_owned()));
            Value::Object(members)
        }
    }
}

/// A second element of a name makes a list.
fn insert(members: &mut Map<String, Value>, name: String, value: Value) {
    match members.get_mut(&name) {
        None => drop(members.insert(name, value)),
        Some(Value::Array(items)) => items.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_elements() {
        let rows = [
            ("order is kept", r#"{"z":1,"a":"x"}"#, Ok("<z>1</z><a>x</a>")),
            ("a list", r#"{"a":[1,{"b":true}]}"#, Ok("<a>1</a><a><b>true</b></a>")),
            ("attributes", r##"{"p:a":{"@xmlns:p":"urn:x","#text":"t"}}"##, Ok(r#"<p:a xmlns:p="urn:x">t</p:a>"#)),
            ("escaped", r#"{"a":{"@b":"\"<","c":"<&>"}}"#, Ok(r#"<a b="&quot;&lt;"><c>&lt;&amp;&gt;</c></a>"#)),
            ("nothing", r#"{"a":null,"b":{},"c":[]}"#, Ok("<b></b>")),
            ("a null body", "null", Ok("")),
            ("no name", r#"{"a b":1}"#, Err("no name of an element")),
            ("markup in a name", r#"{"a><b":1}"#, Err("no name of an element")),
            ("a control character", "{\"a\":\"\\u0001\"}", Err("XML cannot hold")),
            ("a list in a list", r#"{"a":[[1]]}"#, Err("a list in a list")),
            ("no object", "[1]", Err("an object of elements")),
        ];
        for (why, json, expected) in rows {
            match (write(&Payload::parse(json).unwrap()), expected) {
                (Ok(xml), Ok(expected)) => assert_eq!(xml, expected, "{why}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{why}: {error}"),
                (got, _) => panic!("{why}: {got:?}"),
            }
        }
    }

    #[test]
    fn elements_are_objects() {
        let deep = "<a>".repeat(100_000);
        let rows = [
            ("text", "<a>x</a>", Ok(r#""x""#)),
            ("children", "<p:a xmlns:p='urn:x'><p:b>1</p:b><c/></p:a>", Ok(r#"{"b":"1","c":null}"#)),
            ("a list", "<a><b>1</b><b>2</b><b>3</b></a>", Ok(r#"{"b":["1","2","3"]}"#)),
            ("attributes", "<a b='1'>x</a>", Ok(r##"{"#text":"x","@b":"1"}"##)),
            ("nil", "<a><b xsi:nil='true'/></a>", Ok(r#"{"b":null}"#)),
            ("references", "<a>&lt;&#65;&amp;<![CDATA[<x>]]></a>", Ok(r#""<A&<x>""#)),
            ("declaration and comment", "<?xml version='1.0'?><!-- c --><a>x</a>", Ok(r#""x""#)),
            ("white space between", "<a>\n  <b>1</b>\n</a>", Ok(r#"{"b":"1"}"#)),
            ("a document type", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", Err("a document type")),
            ("an unknown entity", "<a>&b;</a>", Err("no entity `b`")),
            ("not closed", "<a><b></b>", Err("ends too early")),
            ("wrongly closed", "<a></b>", Err("")),
            ("too deep", deep.as_str(), Err("deeper than")),
            ("no XML", "no", Err("ends too early")),
        ];
        for (why, xml, expected) in rows {
            match (read(xml), expected) {
                (Ok((name, value)), Ok(expected)) => {
                    assert_eq!((name.as_str(), value.to_string().as_str()), ("a", expected), "{why}");
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{why}: {error}"),
                (got, _) => panic!("{why}: {got:?}"),
            }
        }
    }
}
