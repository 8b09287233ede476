//! What event data must look like: JSON Schemas by event type and version, and data held against them. Takes
//! texts, opens no file. How versions relate: `compat` compares them, `upcast` leads from one to another.

pub mod compat;
mod compile;
mod load;
mod policy;
pub mod shape;
mod upcast;
mod versions;
mod violation;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use compile::Schema;
pub use policy::{Compatibility, Policy};
pub use upcast::{NoWay, Upcaster};
pub use versions::{Checked, Comparison, compare_versions};
pub use violation::{VIOLATIONS_MAX, Violation};

use crate::id::EventType;
use crate::payload::Payload;

/// A mistake in a schema file or an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file's path as it was handed over; empty for an inline schema.
    pub path: String,
    /// JSON pointer into the file; empty for the file as a whole.
    pub pointer: String,
    pub message: String,
}

impl Finding {
    /// Makes a finding about a line, from 1, of a file that is no JSON.
    pub(crate) fn of_line(path: &str, line: usize, message: impl std::fmt::Display) -> Self {
        Self { path: path.to_owned(), pointer: String::new(), message: format!("line {line}: {message}") }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}: {}", self.path, self.pointer, self.message)
    }
}

/// One version of one event type.
#[derive(Debug)]
pub struct Entry {
    /// The schema file's path as it was handed over.
    pub path: String,
    /// The schema file's text.
    pub source: Payload,
    pub schema: Schema,
    /// Documents that validate, by path.
    pub examples: Vec<(String, Payload)>,
}

/// Every schema that was loaded, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Files>);

/// What the files say.
#[derive(Debug, Default)]
struct Files {
    entries: BTreeMap<EventType, Entry>,
    /// By name, from and to.
    steps: BTreeMap<(String, u32, u32), Upcaster>,
    /// By name.
    policies: BTreeMap<String, Policy>,
}

impl Registry {
    /// Loads schema files given as (path, text): `…/NAME/vN.json`, `…/NAME/examples/vN*.json`, which must
    /// validate, `…/NAME/vN.from-vM.jq`, which is run on the examples, and `…/NAME/policy.yaml`. Other files are
    /// passed over.
    ///
    /// # Errors
    /// Every mistake in every file, by path.
    pub fn load(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, Vec<Finding>> {
        load::load(files)
    }

    /// Validates an event's data. Data of a type that is not known has no violation: ask [`Self::knows`].
    ///
    /// # Errors
    /// All violations, at most [`VIOLATIONS_MAX`].
    pub fn validate(&self, event_type: &EventType, data: &Payload) -> Result<(), Vec<Violation>> {
        self.0.entries.get(event_type).map_or(Ok(()), |entry| entry.schema.validate(data))
    }

    /// True for a type and version with a schema.
    #[must_use]
    pub fn knows(&self, event_type: &EventType) -> bool {
        self.0.entries.contains_key(event_type)
    }

    /// Returns a type's schema and examples.
    #[must_use]
    pub fn get(&self, event_type: &EventType) -> Option<&Entry> {
        self.0.entries.get(event_type)
    }

    /// Returns the versions of a type named without version, ascending.
    #[must_use]
    pub fn versions(&self, name: &str) -> Vec<u32> {
        let mut versions: Vec<u32> =
            self.types().filter(|event_type| event_type.name() == name).map(EventType::version).collect();
        versions.sort_unstable(); // as text, v10 comes before v2
        versions
    }

    /// Returns every name that has a version.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.types().map(EventType::name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns a version of a type by its name.
    #[must_use]
    pub fn of_version(&self, name: &str, version: u32) -> Option<&EventType> {
        self.types().find(|event_type| event_type.name() == name && event_type.version() == version)
    }

    /// Returns the step from one version to the one beside it.
    #[must_use]
    pub fn step(&self, name: &str, from: u32, to: u32) -> Option<&Upcaster> {
        self.0.steps.get(&(name.to_owned(), from, to))
    }

    /// Returns a type's policy, or the default one.
    #[must_use]
    pub fn policy(&self, name: &str) -> Policy {
        self.0.policies.get(name).copied().unwrap_or_default()
    }

    /// Returns every type with a version, in the order of their names.
    pub fn types(&self) -> impl Iterator<Item = &EventType> {
        self.0.entries.keys()
    }

    /// Returns the known type that a mistyped one resembles most, for "did you mean".
    #[must_use]
    pub fn nearest(&self, text: &str) -> Option<&EventType> {
        let likeness = |event_type: &&EventType| strsim::jaro_winkler(event_type.as_str(), text);
        let best = self.types().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
        // Below this, names have little more than letters in common.
        (likeness(&best) > 0.8).then_some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = r##"{
        "type": "object",
        "required": ["orderId", "lines"],
        "properties": {
            "orderId": { "type": "string", "minLength": 1 },
            "lines": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/line" } }
        },
        "$defs": { "line": { "type": "object", "required": ["sku"], "properties": { "qty": { "type": "integer" } } } }
    }"##;

    fn load(files: &[(&str, &str)]) -> Result<Registry, Vec<Finding>> {
        Registry::load(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())))
    }

    #[test]
    fn files_become_types() {
        let registry = load(&[
            ("schemas/order.placed/v2.json", V2),
            ("schemas/order.placed/v10.json", "true"),
            ("schemas/order.placed/examples/v2.json", r#"{"orderId": "A", "lines": [{"sku": "x"}]}"#),
            (
                "schemas/order.placed/examples/v2-two-lines.json",
                r#"{"orderId": "A", "lines": [{"sku": "x"}, {"sku": "y"}]}"#,
            ),
            ("schemas/order.placed/policy.yaml", "compatibility: none"),
            ("schemas/saga.schema.json", "no event type's"),
            ("schemas/order.placed/README.md", "# Orders"),
            ("b.c/v1.json", r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "string"}"#),
        ])
        .unwrap();
        let types: Vec<&str> = registry.types().map(EventType::as_str).collect();
        assert_eq!(types, ["b.c.v1", "order.placed.v10", "order.placed.v2"]);
        assert_eq!(registry.versions("order.placed"), [2, 10]);
        let v2 = EventType::parse("order.placed.v2").unwrap();
        assert!(registry.knows(&v2));
        assert_eq!(registry.get(&v2).unwrap().examples.len(), 2);
        assert_eq!(registry.nearest("order.place.v2").map(EventType::as_str), Some("order.placed.v2"));
        assert_eq!(registry.nearest("zzz"), None);
        assert_eq!(registry.policy("order.placed").word(), "none");
        assert_eq!(registry.policy("b.c"), Policy::default());
        assert!(registry.validate(&EventType::parse("un.known.v1").unwrap(), &Payload::null()).is_ok());
        let b = EventType::parse("b.c.v1").unwrap();
        assert!(registry.validate(&b, &Payload::parse("1").unwrap()).is_err());
    }

    #[test]
    fn mistakes_are_located() {
        let rows: &[(&str, &str, &str, &str, &str)] = &[
            // why, path, text, pointer, message
            ("no JSON", "a.b/v1.json", "{\n \"type\": }", "", "line 2 column 10"),
            ("not a schema", "a.b/v1.json", "[]", "", "type"),
            (
                "an unknown type word",
                "a.b/v1.json",
                r#"{"properties": {"a": {"type": "strin"}}}"#,
                "/properties/a/type",
                "is not one of",
            ),
            (
                "another draft",
                "a.b/v1.json",
                r#"{"$schema": "http://json-schema.org/draft-04/schema#"}"#,
                "/$schema",
                "2020-12 and draft 7",
            ),
            (
                "a reference to the network",
                "a.b/v1.json",
                r#"{"items": {"$ref": "https://example.org/x.json"}}"#,
                "/items/$ref",
                "inside the file",
            ),
            (
                "a reference to a file",
                "a.b/v1.json",
                r#"{"allOf": [{"$ref": "v2.json#/a"}]}"#,
                "/allOf/0/$ref",
                "inside the file",
            ),
            ("a reference to nothing", "a.b/v1.json", r##"{"$ref": "#/$defs/none"}"##, "", "none"),
            ("a reference to itself", "a.b/v1.json", r##"{"$ref": "#"}"##, "", "refers to itself"),
            (
                "a circle",
                "a.b/v1.json",
                r##"{"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}}"##,
                "",
                "refers to itself",
            ),
            ("a pattern that can take for ever", "a.b/v1.json", r#"{"pattern": "(a)\\1"}"#, "/pattern", "linear time"),
            ("a file name", "a.b/two.json", "{}", "", "vN.json"),
            ("version zero", "a.b/v0.json", "{}", "", "vN.json"),
            ("a folder name", "a b/v1.json", "{}", "", "event type"),
            ("no folder", "v1.json", "{}", "", "folder"),
            ("an example of nothing", "a.b/examples/v1.json", "{}", "", "no schema"),
        ];
        for (why, path, text, pointer, part) in rows {
            let findings = load(&[(path, text)]).unwrap_err();
            assert_eq!(findings[0].path, *path, "{why}: {findings:?}");
            assert_eq!(findings[0].pointer, *pointer, "{why}: {findings:?}");
            assert!(findings[0].message.contains(part), "{why}: {}", findings[0]);
        }
        let both = load(&[
            ("s/a.b/v1.json", r#"{"type": "object", "required": ["x", "y"]}"#),
            ("s/a.b/examples/v1.json", "{}"),
            ("s/c/v1.json", r#"{"type": 1, "minLength": "x"}"#),
        ])
        .unwrap_err();
        let shown: Vec<String> = both.iter().map(|finding| format!("{}#{}", finding.path, finding.pointer)).collect();
        let expected =
            ["s/a.b/examples/v1.json#/x", "s/a.b/examples/v1.json#/y", "s/c/v1.json#/minLength", "s/c/v1.json#/type"];
        assert_eq!(shown, expected, "{both:?}");
        let twice = load(&[("x/a.b/v1.json", "true"), ("y/a.b/v1.json", "true")]).unwrap_err();
        assert!(twice[0].message.contains("x/a.b/v1.json"), "{}", twice[0]);
    }

    #[test]
    fn recursion_through_the_data_is_fine() {
        let tree = r##"{"type": "object", "properties": {"left": {"$ref": "#"}, "kids": {"type": "array", "items": {"$ref": "#"}}}}"##;
        let registry = load(&[("tree/v1.json", tree)]).unwrap();
        let kind = EventType::parse("tree.v1").unwrap();
        let data = |text: &str| registry.validate(&kind, &Payload::parse(text).unwrap());
        assert!(data(r#"{"left": {"left": {"kids": [{}]}}}"#).is_ok());
        assert_eq!(data(r#"{"left": {"left": {"kids": [1]}}}"#).unwrap_err()[0].pointer, "/left/left/kids/0");
    }
}
