//! A JSON Schema read as a shape. Understands `type`, `enum`, `const`, `properties`, `required`,
//! `additionalProperties`, `items`, `$ref`, `allOf`, `anyOf`, `oneOf`; whatever else a schema says makes a shape
//! no narrower, so nothing is ever called wrong because of a keyword that is not understood.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::Value;

use super::{Field, Fields, Items, Kinds, Shape};
use crate::payload::Payload;

/// Places of one schema that are looked at for one file; a reference of references can double at each step.
const WORK_MAX: u32 = 20_000;
/// References and alternatives inside each other at one place of the data.
const DEPTH_MAX: usize = 32;

/// A schema document.
#[derive(Debug)]
pub struct Document {
    root: Value,
    work: Cell<u32>,
}

impl Document {
    /// Takes a document that has been compiled, so that its references are known to end.
    #[must_use]
    pub fn new(source: &Payload) -> Rc<Self> {
        Rc::new(Self { root: source.to_value(), work: Cell::new(0) })
    }

    /// Returns the shape of what the whole document describes.
    #[must_use]
    pub fn shape(self: &Rc<Self>) -> Shape {
        Place { document: self.clone(), pointer: String::new() }.shape(0)
    }
}

/// A place in a schema document.
#[derive(Debug, Clone)]
pub struct Place {
    document: Rc<Document>,
    pointer: String,
}

impl Place {
    fn value(&self) -> Option<&Value> {
        self.document.root.pointer(&self.pointer)
    }

    fn member(&self, name: &str) -> Option<&Value> {
        self.value()?.get(name)
    }

    fn below(&self, tokens: &[&str]) -> Self {
        let mut pointer = self.pointer.clone();
        for token in tokens {
            pointer.push('/');
            pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
        }
        Self { document: self.document.clone(), pointer }
    }

    pub(super) fn shape(&self, depth: usize) -> Shape {
        let work = self.document.work.get();
        self.document.work.set(work.saturating_add(1));
        let Some(Value::Object(schema)) = self.value() else {
            return match self.value() {
                Some(Value::Bool(false)) => Shape::of(Kinds::NONE),
                _ => Shape::any(),
            };
        };
        if depth > DEPTH_MAX || work > WORK_MAX {
            return Shape::any();
        }
        let mut shape = Shape::of(kinds(schema));
        if let Some(words) = words(schema) {
            shape.words = Some(Rc::new(words));
        }
        if schema.contains_key("properties")
            || schema.contains_key("required")
            || schema.contains_key("additionalProperties")
        {
            shape.fields = Some(Rc::new(Fields::Schema(self.clone())));
        }
        // Draft 7's list of items, and `prefixItems`, say of each item what it is: too much for a shape.
        if schema.get("items").is_some_and(Value::is_object) && !schema.contains_key("prefixItems") {
            shape.items = Some(Items::Schema(self.below(&["items"])));
        }
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = match reference.strip_prefix('#') {
                Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => {
                    let pointer = percent_encoding::percent_decode_str(pointer).decode_utf8_lossy().into_owned();
                    Self { document: self.document.clone(), pointer }.shape(depth + 1)
                }
                Some(_) | None => Shape::any(), // an anchor
            };
            shape = shape.both(target);
        }
        for (word, every) in [("allOf", true), ("anyOf", false), ("oneOf", false)] {
            let Some(Value::Array(parts)) = schema.get(word) else { continue };
            let parts = (0..parts.len()).map(|at| self.below(&[word, &at.to_string()]).shape(depth + 1));
            let together = parts.reduce(|a, b| if every { a.both(b) } else { a.either(b) });
            if let Some(together) = together {
                shape = shape.both(together);
            }
        }
        shape
    }

    /// Keywords that may declare members elsewhere: then a name that is not in `properties` is nobody's mistake.
    fn declares_elsewhere(&self) -> bool {
        ["if", "then", "else", "dependentSchemas", "dependencies", "patternProperties", "$dynamicRef"]
            .iter()
            .any(|word| self.member(word).is_some())
    }

    pub(super) fn field(&self, name: &str) -> Field {
        let properties = self.member("properties").and_then(Value::as_object);
        let declared = properties.is_some_and(|properties| properties.contains_key(name));
        if declared {
            let shape = self.below(&["properties", name]).shape(0);
            return Field::Declared { shape, always: self.required().contains(name) };
        }
        if self.declares_elsewhere() {
            return Field::Unknown;
        }
        match self.member("additionalProperties") {
            Some(Value::Bool(false)) => Field::Missing { closed: true },
            // A map: members by name of the data's choice.
            Some(Value::Object(_)) => {
                Field::Declared { shape: self.below(&["additionalProperties"]).shape(0), always: false }
            }
            _ if properties.is_some_and(|properties| !properties.is_empty()) => {
                Field::Missing { closed: self.member("unevaluatedProperties") == Some(&Value::Bool(false)) }
            }
            _ => Field::Unknown,
        }
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        let properties = self.member("properties").and_then(Value::as_object);
        properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect()
    }

    pub(super) fn required(&self) -> BTreeSet<String> {
        let required = self.member("required").and_then(Value::as_array);
        required.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

fn kinds(schema: &serde_json::Map<String, Value>) -> Kinds {
    let named = |name: &Value| match name.as_str() {
        Some("null") => Kinds::NULL,
        Some("boolean") => Kinds::BOOLEAN,
        Some("number" | "integer") => Kinds::NUMBER,
        Some("string") => Kinds::STRING,
        Some("array") => Kinds::ARRAY,
        Some("object") => Kinds::OBJECT,
        _ => Kinds::ALL,
    };
    let declared = match schema.get("type") {
        Some(Value::Array(names)) => names.iter().map(named).fold(Kinds::NONE, Kinds::or),
        Some(name) => named(name),
        None => Kinds::ALL,
    };
    match values(schema) {
        Some(values) => values.map(kind).fold(Kinds::NONE, Kinds::or).and(declared),
        None => declared,
    }
}

/// Returns the values that the schema lists.
fn values(schema: &serde_json::Map<String, Value>) -> Option<impl Iterator<Item = &Value>> {
    let listed: Vec<&Value> = match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => vec![value],
        (None, Some(Value::Array(values))) => values.iter().collect(),
        (None, _) => return None,
    };
    Some(listed.into_iter())
}

fn words(schema: &serde_json::Map<String, Value>) -> Option<BTreeSet<String>> {
    values(schema).map(|values| values.filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Returns the kind of a value.
fn kind(value: &Value) -> Kinds {
    match value {
        Value::Null => Kinds::NULL,
        Value::Bool(_) => Kinds::BOOLEAN,
        Value::Number(_) => Kinds::NUMBER,
        Value::String(_) => Kinds::STRING,
        Value::Array(_) => Kinds::ARRAY,
        Value::Object(_) => Kinds::OBJECT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(schema: &str) -> Shape {
        Document::new(&Payload::parse(schema).unwrap()).shape()
    }

    /// Follows a path and says what is there.
    fn at(schema: &str, path: &str) -> String {
        let mut shape = shape(schema);
        for part in path.split('.').filter(|part| !part.is_empty()) {
            if part == "[]" {
                shape = shape.items();
                continue;
            }
            shape = match shape.field(part) {
                Field::Declared { shape, .. } => shape,
                Field::Missing { closed } => return format!("missing{}", if closed { ", closed" } else { "" }),
                Field::Unknown => return "unknown".to_owned(),
            };
        }
        if shape.kinds == Kinds::ALL { "anything".to_owned() } else { shape.kinds.to_string() }
    }

    #[test]
    fn schemas_are_followed() {
        let rows: &[(&str, &str, &str, &str)] = &[
            // why, schema, path, what is there
            ("a property", r#"{"properties": {"a": {"type": "string"}}}"#, "a", "text"),
            ("several types", r#"{"properties": {"a": {"type": ["integer", "null"]}}}"#, "a", "null or a number"),
            ("open", r#"{"properties": {"a": {}}}"#, "b", "missing"),
            ("closed", r#"{"properties": {"a": {}}, "additionalProperties": false}"#, "b", "missing, closed"),
            ("a map", r#"{"additionalProperties": {"type": "number"}}"#, "whatever", "a number"),
            ("nothing declared", r#"{"type": "object"}"#, "a", "unknown"),
            ("by pattern", r#"{"properties": {"a": {}}, "patternProperties": {"^x": {}}}"#, "b", "unknown"),
            (
                "items",
                r##"{"properties": {"l": {"items": {"$ref": "#/$defs/i"}}}, "$defs": {"i": {"type": "boolean"}}}"##,
                "l.[]",
                "a boolean",
            ),
            (
                "a choice",
                r#"{"oneOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"type": "null"}}}]}"#,
                "a",
                "null or text",
            ),
            (
                "in one alternative, the other open",
                r#"{"anyOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {}}}]}"#,
                "a",
                "anything",
            ),
            (
                "in one alternative, the other closed",
                r#"{"anyOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {}}, "additionalProperties": false}]}"#,
                "a",
                "null or text",
            ),
            ("in none", r#"{"anyOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}"#, "c", "missing"),
            (
                "all of",
                r#"{"properties": {"a": {"type": "string"}}, "allOf": [{"properties": {"b": {"type": "number"}}}]}"#,
                "b",
                "a number",
            ),
            ("an enum of two kinds", r#"{"enum": ["a", 1]}"#, "", "a number or text"),
            (
                "recursion through the data",
                r##"{"properties": {"next": {"$ref": "#"}, "v": {"type": "number"}}}"##,
                "next.next.next.v",
                "a number",
            ),
            ("false", r#"{"properties": {"a": false}}"#, "a", ""),
        ];
        for (why, schema, path, expected) in rows {
            assert_eq!(at(schema, path), *expected, "{why}");
        }
        let words = shape(r#"{"anyOf": [{"const": "a"}, {"enum": ["b", "c"]}]}"#);
        assert_eq!(words.known_words().unwrap().iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(shape(r#"{"anyOf": [{"const": "a"}, {"type": "string"}]}"#).known_words().is_none());
    }

    /// A schema whose references double at each step is given up, not unfolded.
    #[test]
    fn work_is_bounded() {
        let mut defs = vec![r#""d0": {"type": "string"}"#.to_owned()];
        for n in 1..=30 {
            let below = n - 1;
            defs.push(format!(
                r##""d{n}": {{"allOf": [{{"$ref": "#/$defs/d{below}"}}, {{"$ref": "#/$defs/d{below}"}}]}}"##
            ));
        }
        let schema = format!(r##"{{"$ref": "#/$defs/d30", "$defs": {{{}}}}}"##, defs.join(","));
        let document = Document::new(&Payload::parse(schema).unwrap());
        assert_eq!(document.shape().kinds, Kinds::ALL, "given up");
        assert!(document.work.get() <= 2 * WORK_MAX, "{}", document.work.get());
    }
}
