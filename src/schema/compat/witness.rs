//! A document that proves it: made of the writer's schema around the place of a gap, accepted by the writer
//! and refused by the reader. What is said to be incompatible can then be seen with one's own eyes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Profile;
use super::clause::{Clause, Kind, Term, Terms};
use super::include::Checker;
use super::normal::{first_whole, last_whole};
use super::number::Num;
use super::pattern::{self, Within};
use super::value::scalar_fits;

/// Documents tried for one gap.
const TRIED_MAX: usize = 400;
/// Gaps that are looked into.
const GAPS_MAX: usize = 12;
/// Levels below the gap's place, and of what has to stand around it.
const DEPTH_MAX: u32 = 24;
/// Items or characters of a document made here.
const SIZE_MAX: u64 = 300;
/// A name that no schema has.
const UNNAMED: &str = "x-unnamed";
/// Never found in any text.
const NOWHERE: &str = r"[^\s\S]";

/// What both schemas mention: edges and words worth trying.
#[derive(Default)]
struct Hints {
    numbers: BTreeSet<Num>,
    sizes: BTreeSet<u64>,
    texts: BTreeSet<String>,
    patterns: BTreeSet<String>,
    names: BTreeSet<String>,
}

/// As much as one schema's words are worth trying.
const HINTS_MAX: usize = 40;

impl Hints {
    fn of(schemas: [&Value; 2]) -> Self {
        let mut hints = Self::default();
        for schema in schemas {
            hints.collect(schema);
        }
        hints
    }

    fn collect(&mut self, value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    if let Some(number) = Num::of(value) {
                        self.numbers.extend([number.plus(-1), number, number.plus(1)]);
                        self.sizes.extend(
                            value.as_u64().into_iter().flat_map(|size| [size.saturating_sub(1), size, size + 1]),
                        );
                    }
                    match (name.as_str(), value) {
                        ("pattern", Value::String(pattern)) => drop(self.patterns.insert(pattern.clone())),
                        ("const", Value::String(text)) => drop(self.texts.insert(text.clone())),
                        ("properties", Value::Object(named)) => self.names.extend(named.keys().cloned()),
                        ("patternProperties", Value::Object(named)) => self.patterns.extend(named.keys().cloned()),
                        _ => {}
                    }
                    self.collect(value);
                }
            }
            Value::Array(items) => {
                for item in items {
                    if let Value::String(text) = item {
                        self.texts.insert(text.clone());
                    }
                    self.numbers.extend(Num::of(item));
                    self.collect(item);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Looks for a document that one schema takes and the other does not.
pub(super) struct Search<'c, 'a> {
    checker: &'c mut Checker<'a>,
    hints: Hints,
    left: usize,
    /// Small documents that were made before.
    made: BTreeMap<Terms, Option<Value>>,
}

/// Returns a document that fits `writer` and breaks `reader`, made around the paths.
pub(super) fn find<'a>(
    checker: &mut Checker<'a>,
    schemas: [&'a Value; 2],
    (writer, reader): (&Terms, &Terms),
    paths: &[&str],
) -> Option<Value> {
    let mut search = Search { hints: Hints::of(schemas), checker, left: 0, made: BTreeMap::new() };
    for path in paths.iter().take(GAPS_MAX) {
        search.left = TRIED_MAX;
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        for document in search.vary(writer, &parts, 0) {
            let takes = search.checker.normal.fits(&document, writer) == Some(true);
            if takes && search.checker.normal.fits(&document, reader) == Some(false) {
                return Some(document);
            }
        }
    }
    None
}

impl<'a> Search<'_, 'a> {
    fn alive(&mut self, terms: &Terms) -> Vec<Clause<'a>> {
        let mut all = Vec::new();
        for kind in [Kind::Text, Kind::Number, Kind::Object, Kind::Array, Kind::Boolean, Kind::Null] {
            all.extend(self.checker.living(kind, terms).iter().take(8).cloned());
        }
        all
    }

    /// Makes documents that differ at the path and below it.
    fn vary(&mut self, terms: &Terms, path: &[&str], depth: u32) -> Vec<Value> {
        let mut out = Vec::new();
        if depth > DEPTH_MAX {
            return out;
        }
        for clause in self.alive(terms) {
            if self.left == 0 {
                break;
            }
            if clause.values.is_some() || matches!(clause.kind, Kind::Number | Kind::Text) {
                let scalars = self.scalars(&clause);
                out.extend(scalars);
                continue;
            }
            let (Some(part), true) = (path.first(), matches!(clause.kind, Kind::Object | Kind::Array)) else {
                let around = if clause.kind == Kind::Object {
                    self.objects(&clause, depth)
                } else {
                    self.arrays(&clause, depth)
                };
                out.extend(around);
                continue;
            };
            let inner = if clause.kind == Kind::Object {
                self.objects_along(&clause, part, &path[1..], depth)
            } else {
                self.arrays_along(&clause, part, &path[1..], depth)
            };
            out.extend(inner);
        }
        self.left = self.left.saturating_sub(out.len());
        out
    }

    /// Returns one document that fits, as small as may be.
    fn smallest(&mut self, terms: &Terms, depth: u32) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        if terms.is_empty() {
            return Some(json!("a"));
        }
        if let Some(made) = self.made.get(terms) {
            return made.clone();
        }
        let made = self.make_smallest(terms, depth);
        // Further out there may be room for what did not fit below.
        if made.is_some() || depth == 0 {
            self.made.insert(terms.clone(), made.clone());
        }
        made
    }

    fn make_smallest(&mut self, terms: &Terms, depth: u32) -> Option<Value> {
        for clause in self.alive(terms) {
            let made = match clause.kind {
                Kind::Text if clause.values.is_none() && clause.patterns.is_empty() && clause.formats.is_empty() => {
                    let least = usize::try_from(clause.size.min.min(SIZE_MAX)).unwrap_or(0).max(1);
                    let most = clause.size.max.and_then(|max| usize::try_from(max).ok()).unwrap_or(least);
                    vec![Value::from("a".repeat(least.min(most)))]
                }
                Kind::Number | Kind::Text | Kind::Null | Kind::Boolean => self.scalars(&clause),
                Kind::Array | Kind::Object if clause.values.is_some() => self.scalars(&clause),
                Kind::Array => self.array(&clause, clause.size.min, depth).into_iter().collect(),
                Kind::Object => self.object(&clause, &[], depth).map(Value::Object).into_iter().collect(),
            };
            if let Some(fits) = made.into_iter().find(|one| self.checker.normal.fits(one, terms) != Some(false)) {
                return Some(fits);
            }
        }
        None
    }

    fn scalars(&mut self, clause: &Clause<'a>) -> Vec<Value> {
        if let Some(values) = &clause.values {
            return values.iter().map(|value| value.as_ref().clone()).collect();
        }
        let mut tried: Vec<Value> = Vec::new();
        if clause.kind == Kind::Number {
            let mut numbers = vec![Num::Whole(1), Num::Whole(0), Num::Real(0.5), Num::Whole(-1), Num::Whole(1_000_000)];
            for (step, _) in &clause.steps {
                numbers.push(*step);
            }
            if let Some(lower) = clause.lower {
                numbers.extend([lower.limit, first_whole(&lower), first_whole(&lower).plus(1)]);
                numbers.push(Num::Real(lower.limit.to_real() + 0.5));
            }
            if let Some(upper) = clause.upper {
                numbers.extend([upper.limit, last_whole(&upper), last_whole(&upper).plus(-1)]);
                numbers.push(Num::Real(upper.limit.to_real() - 0.5));
            }
            numbers.extend(self.hints.numbers.iter().take(HINTS_MAX));
            tried.extend(numbers.into_iter().map(Num::to_value));
        } else {
            let mut texts: Vec<String> = ["a", "", "A", "0", "é"].map(str::to_owned).to_vec();
            let mut lengths: BTreeSet<u64> = self.hints.sizes.iter().copied().take(HINTS_MAX).collect();
            lengths.extend([clause.size.min, clause.size.max.unwrap_or(clause.size.min + 1)]);
            let lengths = lengths.into_iter().filter(|length| *length <= SIZE_MAX);
            texts.extend(lengths.filter_map(|length| usize::try_from(length).ok()).map(|length| "a".repeat(length)));
            texts.extend(self.hints.texts.iter().take(HINTS_MAX).cloned());
            let owns: Vec<&str> = clause.patterns.iter().map(|(pattern, _)| *pattern).collect();
            let own_only = (!owns.is_empty()).then_some(NOWHERE);
            for wanted in self.hints.patterns.iter().take(8).map(String::as_str).chain(own_only) {
                if let Within::No(text) = pattern::within(&owns, wanted) {
                    texts.push(text);
                }
            }
            texts.extend(FORMATTED.map(str::to_owned));
            tried.extend(texts.into_iter().map(Value::from));
        }
        tried.retain(|value| scalar_fits(clause, value) != Some(false));
        tried
    }

    /// Makes a list of so many items.
    fn array(&mut self, clause: &Clause<'a>, length: u64, depth: u32) -> Option<Value> {
        let mut items = Vec::new();
        let wanted: Vec<Term> = clause.contains.iter().map(|contains| contains.item.clone()).collect();
        for at in 0..usize::try_from(length.min(SIZE_MAX)).ok()? {
            let mut terms = clause.item(at).clone();
            if let Some(term) = at.checked_sub(clause.first.len()).and_then(|at| wanted.get(at)) {
                terms = super::clause::joined(&terms, std::slice::from_ref(term));
            }
            let item = if clause.unique.is_some() {
                let others = self.vary(&terms, &[], depth + 1);
                others.into_iter().find(|item| !items.contains(item))
            } else {
                self.smallest(&terms, depth + 1)
            };
            items.push(item?);
        }
        Some(Value::Array(items))
    }

    fn arrays(&mut self, clause: &Clause<'a>, depth: u32) -> Vec<Value> {
        let min = clause.size.min;
        let mut lengths: BTreeSet<u64> = [min, min + 1, min + 2, clause.first.len() as u64].into();
        lengths.extend(clause.size.max);
        lengths.extend(self.hints.sizes.iter().copied().filter(|size| *size <= 100).take(HINTS_MAX));
        lengths.retain(|length| *length >= min && clause.size.max.is_none_or(|max| *length <= max));
        let mut out: Vec<Value> = lengths.into_iter().filter_map(|length| self.array(clause, length, depth)).collect();
        if depth < 3 {
            let last = clause.size.min.max(1);
            let items =
                self.vary(&clause.item(usize::try_from(last - 1).unwrap_or(0)).clone(), &[], depth + DEPTH_MAX - 2);
            if let Some(Value::Array(base)) = self.array(clause, last, depth) {
                for item in items {
                    let mut list = base.clone();
                    if let Some(place) = list.last_mut() {
                        *place = item;
                    }
                    out.push(Value::Array(list));
                }
            }
        }
        out
    }

    fn arrays_along(&mut self, clause: &Clause<'a>, part: &str, path: &[&str], depth: u32) -> Vec<Value> {
        let at = match part {
            "*" => clause.first.len(),
            index => index.parse().unwrap_or(0),
        };
        let length = clause.size.min.max(at as u64 + 1);
        let Some(Value::Array(base)) = self.array(clause, length, depth) else { return Vec::new() };
        let items = self.vary(&clause.item(at).clone(), path, depth + 1);
        items
            .into_iter()
            .filter_map(|item| {
                let mut list = base.clone();
                *list.get_mut(at)? = item;
                Some(Value::Array(list))
            })
            .collect()
    }

    /// Makes an object with the members that must be there, and some more.
    fn object(&mut self, clause: &Clause<'a>, more: &[&str], depth: u32) -> Option<Map<String, Value>> {
        let mut object = Map::new();
        let mut names: BTreeSet<&str> = clause.required.keys().copied().chain(more.iter().copied()).collect();
        for (name, needed, _) in &clause.dependent {
            if names.contains(name) {
                names.extend(needed.iter().copied());
            }
        }
        for name in names {
            let terms = self.checker.member(clause, name).0;
            object.insert(name.to_owned(), self.smallest(&terms, depth + 1)?);
        }
        let mut filler = 0;
        while (object.len() as u64) < clause.size.min.min(SIZE_MAX) {
            let named = clause.members.iter().flat_map(|members| members.named.keys().copied());
            let free = named.map(str::to_owned).find(|name| !object.contains_key(name));
            filler += 1;
            let name = free.unwrap_or_else(|| format!("{UNNAMED}-{filler}"));
            let terms = self.checker.member(clause, &name).0;
            match self.smallest(&terms, depth + 1) {
                Some(value) => drop(object.insert(name, value)),
                None if filler > SIZE_MAX => return None,
                None => {}
            }
        }
        Some(object)
    }

    fn objects(&mut self, clause: &Clause<'a>, depth: u32) -> Vec<Value> {
        let Some(base) = self.object(clause, &[], depth) else { return Vec::new() };
        let mut out = vec![Value::Object(base.clone())];
        let mut names: BTreeSet<String> = [UNNAMED.to_owned()].into();
        names.extend(clause.members.iter().flat_map(|members| members.named.keys().map(|name| (*name).to_owned())));
        if self.checker.profile == Profile::Strict {
            names.extend(self.hints.names.iter().take(HINTS_MAX).cloned());
        }
        for pattern in self.hints.patterns.iter().take(8) {
            if let Within::No(name) = pattern::within(&[pattern], NOWHERE) {
                names.insert(name);
            }
        }
        for name in &names {
            let terms = self.checker.member(clause, name).0;
            let mut values = if terms.is_empty() {
                vec![json!("a"), json!(1), json!(null), json!([]), json!({}), json!(true)]
            } else {
                self.smallest(&terms, depth + 1).into_iter().collect()
            };
            if depth < 2 && !terms.is_empty() {
                values.extend(self.vary(&terms, &[], depth + DEPTH_MAX - 2).into_iter().take(12));
            }
            for value in values {
                let mut object = base.clone();
                object.insert(name.clone(), value);
                out.push(Value::Object(object));
            }
        }
        // Many members at once, where their number counts.
        let limit = self.hints.sizes.iter().copied().filter(|size| *size <= 100).max().unwrap_or(0);
        let mut many = base;
        for number in 0..=limit {
            many.insert(format!("{UNNAMED}-{number}"), json!("a"));
            out.push(Value::Object(many.clone()));
        }
        out
    }

    fn objects_along(&mut self, clause: &Clause<'a>, part: &str, path: &[&str], depth: u32) -> Vec<Value> {
        let part = part.replace("~1", "/").replace("~0", "~");
        let mut names: Vec<String> = if part == "*" { vec![UNNAMED.to_owned()] } else { vec![part] };
        if names[0] == UNNAMED {
            for pattern in self.hints.patterns.iter().take(8) {
                if let Within::No(name) = pattern::within(&[pattern], NOWHERE) {
                    names.push(name);
                }
            }
        }
        let mut out = Vec::new();
        for name in names {
            let terms = self.checker.member(clause, &name).0;
            if self.checker.is_empty(&terms) {
                out.extend(self.object(clause, &[], depth).map(Value::Object));
                continue;
            }
            let Some(base) = self.object(clause, &[], depth) else { continue };
            if !clause.required.contains_key(name.as_str()) {
                out.push(Value::Object(base.clone()));
            }
            let mut values = self.vary(&terms, path, depth + 1);
            if terms.is_empty() {
                values = vec![json!("a"), json!(1), json!(null), json!([]), json!({}), json!(true)];
            }
            for value in values {
                let mut object = base.clone();
                object.insert(name.clone(), value);
                out.push(Value::Object(object));
            }
            // What may only stand beside it.
            if let Some(with) = self.object(clause, &[&name], depth) {
                out.push(Value::Object(with));
            }
        }
        out
    }
}

/// One text for each format.
const FORMATTED: [&str; 12] = [
    "2030-01-31",
    "2030-01-31T12:00:00Z",
    "12:00:00Z",
    "P1D",
    "a@example.org",
    "example.org",
    "192.0.2.1",
    "2001:db8::1",
    "https://example.org/a",
    "/a",
    "1/a",
    "62e7b8b3-17f5-5744-8f71-b8115137432f",
];
