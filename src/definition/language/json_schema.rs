//! The table as JSON Schema (2020-12), with a description on every key, for editors.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::steps::KINDS_BESIDE;
use super::{FILE, Key, Mapping, STEP, Value};

/// Where the document says that it is kept.
const ID: &str = "https://backstitch.dev/schemas/saga.schema.json";

/// Returns the JSON Schema of saga files; `schemas/saga.schema.json` is this.
#[must_use]
pub fn json_schema() -> Json {
    let mut definitions = BTreeMap::new();
    let mut file = mapping(&FILE, &mut definitions);
    let definitions: Map<String, Json> =
        definitions.into_iter().map(|(name, found)| (name.to_owned(), found)).collect();
    if let Json::Object(members) = &mut file {
        members.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        members.insert("$id".to_owned(), ID.into());
        members.insert("title".to_owned(), "Backstitch saga".into());
        members.insert("$defs".to_owned(), definitions.into());
    }
    file
}

type Definitions = BTreeMap<&'static str, Json>;

fn mapping(mapping: &'static Mapping, definitions: &mut Definitions) -> Json {
    let mut properties = Map::new();
    for key in mapping.keys {
        properties.insert(key.name.to_owned(), property(key, definitions));
    }
    let mut out = Map::new();
    out.insert("type".to_owned(), "object".into());
    out.insert("description".to_owned(), mapping.about.into());
    out.insert("additionalProperties".to_owned(), false.into());
    out.insert("properties".to_owned(), properties.into());
    let required: Vec<&str> = mapping.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    if !required.is_empty() {
        out.insert("required".to_owned(), required.into());
    }
    if !mapping.one_of.is_empty() {
        let one = |name: &&'static str| match KINDS_BESIDE.iter().find(|(kind, _)| kind == name) {
            Some((_, owner)) => json!({ "required": [name], "not": { "required": [owner] } }),
            None => json!({ "required": [name] }),
        };
        out.insert("oneOf".to_owned(), mapping.one_of.iter().map(one).collect());
    }
    out.into()
}

fn property(key: &'static Key, definitions: &mut Definitions) -> Json {
    let mut out = value(&key.value, definitions);
    if let Json::Object(members) = &mut out {
        members.insert("description".to_owned(), key.about.into());
    }
    out
}

fn value(value: &'static Value, definitions: &mut Definitions) -> Json {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match value {
        Value::Literal => json!({ "type": "string" }),
        Value::Name(pattern) => text(pattern),
        Value::EventType => text(r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.v[1-9][0-9]{0,5}$"),
        Value::Integer(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        Value::Number(from, to) => json!({ "type": "number", "minimum": from, "maximum": to }),
        Value::Boolean => json!({ "type": "boolean" }),
        Value::Duration => text("^([0-9]+(ms|s|m|h|d)|P[0-9A-Z.]+)$"),
        Value::Condition => json!({ "anyOf": [{ "type": "boolean" }, text(EXPRESSION)] }),
        Value::Expression => text(EXPRESSION),
        Value::Text => json!({ "type": ["string", "number", "boolean"] }),
        Value::Any => json!({}),
        Value::Words(words) => json!({ "enum": words }),
        Value::Schema => json!({ "type": "object" }),
        Value::Steps => {
            let step = reference(&STEP, definitions);
            json!({ "type": "array", "minItems": 1, "items": step })
        }
        Value::Mapping(named) => reference(named, definitions),
        Value::List(item) => json!({ "type": "array", "minItems": 1, "items": self::value(item, definitions) }),
        Value::Named(item) => json!({ "type": "object", "additionalProperties": self::value(item, definitions) }),
        Value::OneOf(values) => {
            json!({ "anyOf": values.iter().map(|one| self::value(one, definitions)).collect::<Vec<_>>() })
        }
    }
}

fn reference(named: &'static Mapping, definitions: &mut Definitions) -> Json {
    if !definitions.contains_key(named.name) {
        // The name first: a mapping may hold itself.
        definitions.insert(named.name, Json::Null);
        let made = mapping(named, definitions);
        definitions.insert(named.name, made);
    }
    json!({ "$ref": format!("#/$defs/{}", named.name) })
}

/// One expression, and nothing around it.
const EXPRESSION: &str = r"^\s*\$\{[\s\S]*\}\s*$";
