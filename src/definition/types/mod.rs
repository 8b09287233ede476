//! What follows from schemas: each expression is followed along them, and what no data could make right is
//! reported where it stands. Only in files that are loaded anew: a run in flight keeps the file it began with.

mod fits;
mod matches;
mod variables;

use std::collections::BTreeMap;
use std::ops::Range;

use super::diagnostic::Finding;
use super::file::Loader;
use super::locate::{floor, locate};
use super::model::InputSchema;
use super::reader::{AnswerTo, Wants, Written};
use super::yaml::{Node, Yaml};
use crate::expression::infer::{Mistake, infer};
use crate::schema::shape::{Kinds, Shape};

use fits::Data;
use variables::{At, Variables};

/// Keys behind which an expression stands alone, and what it has to yield there.
const YIELDS: &[(&str, Kinds)] = &[
    ("if", Kinds::BOOLEAN),
    ("when", Kinds::BOOLEAN),
    ("proof", Kinds::BOOLEAN),
    ("unknown", Kinds::BOOLEAN),
    ("refused", Kinds::BOOLEAN),
    ("retry", Kinds::BOOLEAN),
    ("done", Kinds::BOOLEAN),
    ("happened", Kinds::BOOLEAN),
    ("expect", Kinds::BOOLEAN),
    ("ok", Kinds::BOOLEAN),
    ("until", Kinds::BOOLEAN),
    ("wait_until", Kinds::STRING.or(Kinds::NUMBER)),
    ("in", Kinds::ARRAY),
];

impl Loader<'_> {
    /// Follows every expression of the file along the schemas that it reads from.
    pub(super) fn type_rules(&mut self, tree: &Node, input: Option<&InputSchema>) {
        let variables = Variables::new(self, tree, input);
        let mut keys = BTreeMap::new();
        alone(tree, &mut keys);
        let mut findings = Vec::new();
        let mut shapes = BTreeMap::<usize, Vec<(Wants, Shape)>>::new();
        for written in &self.reader.written {
            let known = At {
                variables: &variables,
                at: written.at,
                place: written.scalar.start,
                answer: self.answer_at(written.scalar.start),
                locals: &written.locals,
            };
            let (shape, mistakes) = infer(&written.source, &known);
            findings.extend(mistakes.into_iter().map(|mistake| self.placed(written, mistake)));
            findings.extend(self.yields(written, &shape, &keys));
            shapes.entry(written.scalar.start).or_default().push((written.wants, shape));
        }
        let data = Data { shapes: &shapes, text: self.reader.text };
        for emitted in &self.reader.emitted {
            let Some(wanted) = variables.schema(&emitted.event) else { continue };
            let what = format!("the data of `{}`", emitted.event);
            data.check(emitted.data.as_ref(), &emitted.span, &wanted, &what, &mut findings);
        }
        for shaped in &self.reader.shaped {
            let Some(wanted) = variables.of_schema(&shaped.schema) else { continue };
            data.check(Some(&shaped.node), &shaped.node.span, &wanted, shaped.what, &mut findings);
        }
        matches::check(tree, &variables, &data, &mut findings);
        if let Some(wanted) = variables.input_schema() {
            for trigger in variables.triggers() {
                match &trigger.input {
                    Some(node) => data.check(Some(node), &node.span, &wanted, "the input", &mut findings),
                    None => {
                        let Some(given) = &trigger.data else { continue };
                        let what = "the event's data, the input here,";
                        data.compare(given, &wanted, &trigger.span, what, &mut findings);
                    }
                }
            }
        }
        self.reader.findings.append(&mut findings);
    }

    /// Returns which answer `$result` is at a place.
    fn answer_at(&self, place: usize) -> Option<AnswerTo> {
        let around = self.reader.answers.iter().filter(|(span, _)| span.contains(&place));
        around.min_by_key(|(span, _)| span.len()).map(|(_, answer)| *answer)
    }

    /// Says so where an expression can never yield what its place needs.
    fn yields(&self, written: &Written, shape: &Shape, keys: &BTreeMap<usize, (&str, Kinds)>) -> Option<Finding> {
        let real = match shape.kinds.without(Kinds::NULL) {
            Kinds::NONE => shape.kinds,
            real => real,
        };
        let span = self.reader.first_line(&written.scalar);
        match written.wants {
            Wants::Alone => {
                let (key, wanted) = keys.get(&written.scalar.start)?;
                let wrong = !real.meets(*wanted) && !shape.is_impossible();
                wrong.then(|| {
                    let wanted =
                        if *wanted == Kinds::BOOLEAN { "true or false".to_owned() } else { wanted.to_string() };
                    let message = format!("`{key}` must yield {wanted}; this yields {real}");
                    let finding = Finding::new("X013", span, message);
                    if wanted == "true or false" {
                        finding.help("compare it with something: `== …`, `> …`, `!= null`")
                    } else {
                        finding
                    }
                })
            }
            Wants::Text => {
                let wrong = real.within(Kinds::ARRAY.or(Kinds::OBJECT)) && !shape.is_impossible();
                wrong.then(|| {
                    let message = format!("{real} cannot stand in text");
                    Finding::new("X016", span, message).help("take a member of it, or write it as JSON: `| tojson`")
                })
            }
            Wants::Value => None,
        }
    }

    /// Places a mistake of an expression in the file.
    fn placed(&self, written: &Written, mistake: Mistake) -> Finding {
        let span = match &written.decoded {
            None => written.base + mistake.span.start..written.base + mistake.span.end,
            Some((text, offset)) => {
                let from = locate(self.reader.text, &written.scalar, text, offset + mistake.span.start);
                let to = locate(self.reader.text, &written.scalar, text, offset + mistake.span.end);
                from..to.clamp(from, written.scalar.end.max(from))
            }
        };
        let span = floor(self.reader.text, span.start)..floor(self.reader.text, span.end);
        let mut finding = Finding::new(mistake.code, self.reader.first_line(&span), mistake.message);
        finding.help = mistake.help;
        if mistake.warning { finding.warning() } else { finding }
    }
}

/// Collects where the values of [`YIELDS`] stand.
fn alone(node: &Node, out: &mut BTreeMap<usize, (&'static str, Kinds)>) {
    match &node.value {
        Yaml::Scalar(_) => {}
        Yaml::Sequence(items) => items.iter().for_each(|item| alone(item, out)),
        Yaml::Mapping(entries) => {
            for entry in entries {
                if let Some(row) = YIELDS.iter().find(|(key, _)| *key == entry.key) {
                    out.insert(entry.value.span.start, *row);
                }
                alone(&entry.value, out);
            }
        }
    }
}

/// Cuts a span at the end of its first line.
fn first_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let end = text[span.clone()].find('\n').map_or(span.end, |at| span.start + at);
    span.start..end
}
