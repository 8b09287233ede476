//! Whether two subschemas say the same in the same words: then nothing need be taken apart, not even what
//! nobody could take apart.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::clause::Term;
use super::document::{Documents, Id};
use super::number::equal;

/// Keywords that hold one schema.
const ONE: [&str; 12] = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
/// Keywords that hold schemas in a list; `items` does in draft 7.
const LISTS: [&str; 5] = ["allOf", "anyOf", "items", "oneOf", "prefixItems"];
/// Keywords that hold schemas by name.
const MAPS: [&str; 4] = ["dependencies", "dependentSchemas", "patternProperties", "properties"];
/// Keywords that decide by their value.
const VALUES: [&str; 22] = [
    "const",
    "dependencies",
    "dependentRequired",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "required",
    "type",
    "uniqueItems",
];
/// Pairs inside each other; a chain of references longer than this is compared no further.
const DEPTH_MAX: usize = 100;

/// Pairs that were compared.
#[derive(Default)]
pub(super) struct Same {
    known: BTreeMap<(Id, Id), bool>,
    open: BTreeSet<(Id, Id)>,
    /// A pair was taken for the same because it is being compared further out.
    assumed: bool,
}

impl Same {
    pub(super) fn terms(&mut self, docs: &mut Documents<'_>, a: &Term, b: &Term) -> bool {
        match (a, b) {
            (Term::Is(a), Term::Is(b)) | (Term::Not(a), Term::Not(b)) => self.schemas(docs, *a, *b),
            _ => a == b,
        }
    }

    pub(super) fn schemas(&mut self, docs: &mut Documents<'_>, a: Id, b: Id) -> bool {
        if a == b {
            return true;
        }
        if let Some(known) = self.known.get(&(a, b)) {
            return *known;
        }
        if self.open.len() > DEPTH_MAX {
            return false;
        }
        if !self.open.insert((a, b)) {
            self.assumed = true;
            return true;
        }
        let same = self.members(docs, a, b);
        self.open.remove(&(a, b));
        if self.open.is_empty() {
            self.assumed = false;
            self.known.insert((a, b), same);
        } else if !same || !self.assumed {
            self.known.insert((a, b), same);
        }
        same
    }

    fn members(&mut self, docs: &mut Documents<'_>, a: Id, b: Id) -> bool {
        match (docs.schema(a), docs.schema(b)) {
            (Value::Object(_), Value::Object(_)) => {}
            (a, b) => return a == b,
        }
        let values = VALUES.iter().all(|keyword| match (docs.keyword(a, keyword), docs.keyword(b, keyword)) {
            (None, None) => true,
            (Some(a), Some(b)) if *keyword == "dependencies" => a.is_object() == b.is_object(),
            (Some(a), Some(b)) => equal(a, b),
            _ => false,
        });
        values
            && self.references(docs, a, b)
            && ONE.iter().all(|keyword| match (docs.child(a, keyword), docs.child(b, keyword)) {
                (None, None) => true,
                (Some(a), Some(b)) => self.schemas(docs, a, b),
                _ => false,
            })
            && LISTS.iter().all(|keyword| match (docs.list(a, keyword), docs.list(b, keyword)) {
                (None, None) => true,
                (Some(a), Some(b)) => a.len() == b.len() && a.into_iter().zip(b).all(|(a, b)| self.schemas(docs, a, b)),
                _ => false,
            })
            && MAPS.iter().all(|keyword| {
                let (of_a, of_b) = (docs.map(a, keyword), docs.map(b, keyword));
                of_a.len() == of_b.len()
                    && of_a
                        .into_iter()
                        .zip(of_b)
                        .all(|((name, a), (other, b))| name == other && self.schemas(docs, a, b))
                    && lists_of(docs, a, keyword) == lists_of(docs, b, keyword)
            })
    }

    fn references(&mut self, docs: &mut Documents<'_>, a: Id, b: Id) -> bool {
        ["$ref", "$dynamicRef"].iter().all(|keyword| {
            let text = |docs: &Documents<'_>, id| docs.keyword(id, keyword).and_then(Value::as_str).map(str::to_owned);
            match (text(docs, a), text(docs, b)) {
                (None, None) => true,
                (Some(to_a), Some(to_b)) => match (docs.resolve(a, &to_a), docs.resolve(b, &to_b)) {
                    (Some(to_a), Some(to_b)) => self.schemas(docs, to_a, to_b),
                    (None, None) => to_a == to_b,
                    _ => false,
                },
                _ => false,
            }
        })
    }
}

/// Returns the lists of names in draft 7's `dependencies`.
fn lists_of<'a>(docs: &Documents<'a>, id: Id, keyword: &str) -> Vec<(&'a String, &'a Value)> {
    let members = docs.keyword(id, keyword).filter(|_| keyword == "dependencies").and_then(Value::as_object);
    members.into_iter().flatten().filter(|(_, value)| value.is_array()).collect()
}
