//! Whether a value fits a subschema: for `enum` and `const`, whose values are held one by one against the
//! other side. Three answers, as some keywords are not looked at here.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

use super::clause::{Clause, Kind, Term};
use super::document::Id;
use super::normal::{Normal, type_fits};
use super::number::{Num, equal};

/// Subschemas inside each other for one value; a circle of references would go on for ever.
const DEPTH_MAX: u32 = 200;

/// Formats that are checked (by the validator too); any other word is a remark.
const FORMATS: [&str; 19] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];

pub(super) fn is_format(format: &str) -> bool {
    FORMATS.contains(&format)
}

/// True if every text of one format is one of the other.
pub(super) fn format_within(narrow: &str, wide: &str) -> bool {
    narrow == wide
        || matches!(
            (narrow, wide),
            ("uri", "uri-reference" | "iri" | "iri-reference")
                | ("uri-reference" | "iri", "iri-reference")
                | ("email", "idn-email")
                | ("hostname", "idn-hostname")
        )
}

fn has_format(text: &str, format: &str) -> Option<bool> {
    let schema = serde_json::json!({ "format": format });
    let validator = jsonschema::options().offline().should_validate_formats(true).build(&schema).ok()?;
    Some(validator.is_valid(&Value::from(text)))
}

/// Says whether a pattern is found in a text; none if it is no pattern that runs in linear time.
pub(super) fn is_found(pattern: &str, text: &str) -> Option<bool> {
    thread_local! {
        /// Compiling takes longer than everything else here.
        static COMPILED: RefCell<BTreeMap<String, Option<Regex>>> = const { RefCell::new(BTreeMap::new()) };
    }
    /// Patterns kept; two schemas have a few.
    const KEPT_MAX: usize = 256;
    COMPILED.with_borrow_mut(|compiled| {
        if compiled.len() > KEPT_MAX {
            compiled.clear();
        }
        let regex = compiled.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
        regex.as_ref().map(|regex| regex.is_match(text))
    })
}

/// All of them: false as soon as one is, unknown if one is.
pub(super) fn all(answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut whole = Some(true);
    for answer in answers {
        match answer {
            Some(false) => return Some(false),
            None => whole = None,
            Some(true) => {}
        }
    }
    whole
}

fn some(mut answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut none = Some(false);
    if answers.any(|answer| {
        none = if answer.is_none() { None } else { none };
        answer == Some(true)
    }) {
        return Some(true);
    }
    none
}

impl<'a> Normal<'a> {
    /// Says whether a value fits all terms.
    pub(super) fn fits(&mut self, value: &Value, terms: &[Term]) -> Option<bool> {
        all(terms.iter().map(|term| self.fits_term(value, term, 0)).collect::<Vec<_>>().into_iter())
    }

    fn fits_term(&mut self, value: &Value, term: &Term, depth: u32) -> Option<bool> {
        match term {
            Term::Is(id) => self.fits_schema(value, *id, depth),
            Term::Not(id) => self.fits_schema(value, *id, depth).map(|fits| !fits),
            Term::Kind(kind) => Some(Kind::of(value) == *kind),
            Term::Value(at) => Some(equal(value, &self.made[*at])),
            Term::Never => Some(false),
        }
    }

    fn fits_schema(&mut self, value: &Value, id: Id, depth: u32) -> Option<bool> {
        match self.docs.schema(id) {
            Value::Bool(all) => return Some(*all),
            Value::Object(_) => {}
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => return Some(true),
        }
        if depth > DEPTH_MAX {
            return None;
        }
        let mut answers = vec![self.fits_branches(value, id, depth + 1)];
        if let Some(types) = self.docs.keyword(id, "type") {
            let (fits, whole) = type_fits(types, Kind::of(value));
            answers.push(Some(fits && (!whole || Num::of(value).is_none_or(Num::is_whole))));
        }
        if let Some(Value::Array(values)) = self.docs.keyword(id, "enum") {
            answers.push(Some(values.iter().any(|one| equal(one, value))));
        }
        if let Some(constant) = self.docs.keyword(id, "const") {
            answers.push(Some(equal(constant, value)));
        }
        let children = match value {
            Value::Null | Value::Bool(_) => Some(true),
            Value::Number(_) | Value::String(_) => {
                // Bounds, lengths, patterns and formats are all in the schema's own clause.
                match self.own(Kind::of(value), id) {
                    Some(own) => scalar_fits(&own, value),
                    None => Some(false),
                }
            }
            Value::Array(items) => self.fits_items(items, id, depth + 1),
            Value::Object(members) => self.fits_members(members, id, depth + 1),
        };
        answers.push(children);
        all(answers.into_iter())
    }

    fn fits_branches(&mut self, value: &Value, id: Id, depth: u32) -> Option<bool> {
        let mut answers = Vec::new();
        if let Some(reference) = self.docs.keyword(id, "$ref") {
            let target = reference.as_str().and_then(|reference| self.docs.resolve(id, reference));
            answers.push(target.and_then(|target| self.fits_schema(value, target, depth)));
        }
        if self.docs.keyword(id, "$dynamicRef").is_some() {
            answers.push(None);
        }
        for child in self.docs.list(id, "allOf").unwrap_or_default() {
            answers.push(self.fits_schema(value, child, depth));
        }
        if let Some(children) = self.docs.list(id, "anyOf") {
            answers.push(some(children.into_iter().map(|child| self.fits_schema(value, child, depth))));
        }
        if let Some(children) = self.docs.list(id, "oneOf") {
            let fits: Vec<_> = children.into_iter().map(|child| self.fits_schema(value, child, depth)).collect();
            let count = |wanted| fits.iter().filter(|fits| **fits == wanted).count();
            answers.push(match (count(Some(true)), count(None)) {
                (2.., _) | (0, 0) => Some(false),
                (1, 0) => Some(true),
                _ => None,
            });
        }
        if let Some(child) = self.docs.child(id, "not") {
            answers.push(self.fits_schema(value, child, depth).map(|fits| !fits));
        }
        if let Some(condition) = self.docs.child(id, "if") {
            let branch = match self.fits_schema(value, condition, depth) {
                Some(true) => Some(self.docs.child(id, "then")),
                Some(false) => Some(self.docs.child(id, "else")),
                None => None,
            };
            answers.push(match branch {
                Some(Some(child)) => self.fits_schema(value, child, depth),
                Some(None) => Some(true),
                None => None,
            });
        }
        all(answers.into_iter())
    }

    fn fits_items(&mut self, items: &[Value], id: Id, depth: u32) -> Option<bool> {
        let Some(own) = self.own(Kind::Array, id) else { return Some(false) };
        let mut answers = vec![size_fits(&own, items.len() as u64)];
        if !own.opaque.is_empty() {
            answers.push(None);
        }
        for (at, item) in items.iter().enumerate() {
            for term in own.item(at) {
                answers.push(self.fits_term(item, term, depth));
            }
        }
        if own.unique.is_some() {
            let twice = (1..items.len()).any(|at| items[..at].iter().any(|other| equal(other, &items[at])));
            answers.push(Some(!twice));
        }
        for contains in &own.contains {
            let fits: Vec<_> = items.iter().map(|item| self.fits_term(item, &contains.item, depth)).collect();
            let sure = fits.iter().filter(|fits| **fits == Some(true)).count() as u64;
            let perhaps = sure + fits.iter().filter(|fits| fits.is_none()).count() as u64;
            answers.push(if sure >= contains.min && contains.max.is_none_or(|max| perhaps <= max) {
                Some(true)
            } else if perhaps < contains.min || contains.max.is_some_and(|max| sure > max) {
                Some(false)
            } else {
                None
            });
        }
        all(answers.into_iter())
    }

    fn fits_members(&mut self, members: &serde_json::Map<String, Value>, id: Id, depth: u32) -> Option<bool> {
        let Some(own) = self.own(Kind::Object, id) else { return Some(false) };
        let mut answers = vec![size_fits(&own, members.len() as u64)];
        if !own.opaque.is_empty() {
            answers.push(None);
        }
        answers.extend(own.required.keys().map(|name| Some(members.contains_key(*name))));
        for (name, value) in members {
            for term in &own.names {
                answers.push(self.fits_term(&Value::from(name.as_str()), term, depth));
            }
            let (terms, sure) = member_terms(&own, name);
            if !sure {
                answers.push(None);
            }
            for term in &terms {
                answers.push(self.fits_term(value, term, depth));
            }
        }
        for (name, needed, _) in own.dependent.iter().filter(|(name, ..)| members.contains_key(*name)) {
            let _ = name;
            answers.push(Some(needed.iter().all(|other| members.contains_key(*other))));
        }
        let whole = Value::Object(members.clone());
        for (_, term, _) in own.dependent_schemas.iter().filter(|(name, ..)| members.contains_key(*name)) {
            answers.push(self.fits_term(&whole, term, depth));
        }
        all(answers.into_iter())
    }
}

/// Returns what a member of a name has to fit; false if a pattern cannot be read.
pub(super) fn member_terms(own: &Clause<'_>, name: &str) -> (BTreeSet<Term>, bool) {
    let (mut terms, mut sure) = (BTreeSet::new(), true);
    for members in &own.members {
        let mut spoken_of = false;
        if let Some(term) = members.named.get(name) {
            terms.insert(term.clone());
            spoken_of = true;
        }
        for (pattern, term) in &members.patterns {
            match is_found(pattern, name) {
                Some(true) => {
                    terms.insert(term.clone());
                    spoken_of = true;
                }
                Some(false) => {}
                None => sure = false,
            }
        }
        if !spoken_of {
            terms.extend(members.others.clone());
        }
    }
    (terms, sure)
}

fn size_fits(own: &Clause<'_>, count: u64) -> Option<bool> {
    Some(count >= own.size.min && own.size.max.is_none_or(|max| count <= max))
}

/// Says whether a number or a text fits what a clause asks of such; its values are not looked at.
pub(super) fn scalar_fits(own: &Clause<'_>, value: &Value) -> Option<bool> {
    let mut answers = Vec::new();
    if let Some(number) = Num::of(value) {
        let above = own.lower.is_none_or(|lower| number > lower.limit || (number == lower.limit && !lower.exclusive));
        let below = own.upper.is_none_or(|upper| number < upper.limit || (number == upper.limit && !upper.exclusive));
        let kind = (own.whole.is_none() || number.is_whole()) && (!own.broken || !number.is_whole());
        answers.push(Some(above && below && kind));
        answers.extend(own.steps.iter().map(|(step, _)| Some(number.is_multiple_of(*step))));
    }
    if let Value::String(text) = value {
        answers.push(size_fits(own, text.chars().count() as u64));
        answers.extend(own.patterns.iter().map(|(pattern, _)| is_found(pattern, text)));
        answers.extend(own.formats.iter().map(|(format, _)| has_format(text, format)));
    }
    if !own.opaque.is_empty() {
        answers.push(None);
    }
    all(answers.into_iter())
}

/// True if a pattern speaks of a name: a match of nothing, as `^a*` has in `b`, says nothing about it.
pub(super) fn is_covered(pattern: &str, name: &str) -> bool {
    Regex::new(pattern).is_ok_and(|regex| regex.find_iter(name).any(|found| !found.is_empty()))
}
