//! Data that the file puts together, held against the schema that it is for.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::diagnostic::Finding;
use super::super::reader::Wants;
use super::super::yaml::{Meaning, Node, Yaml};
use super::variables::literal;
use crate::expression::suggest;
use crate::payload::Payload;
use crate::schema::shape::{Field, Fields, Kinds, Shape};

/// Shapes inside each other that are compared; a schema may go on for ever.
const DEPTH_MAX: usize = 12;

/// The file's data.
pub(super) struct Data<'d> {
    /// What the expressions of each scalar yield, by where the scalar begins.
    pub shapes: &'d BTreeMap<usize, Vec<(Wants, Shape)>>,
    pub text: &'d str,
}

impl Data<'_> {
    /// Checks a value as it is written, member by member; `at` is where to point when there is none.
    pub(super) fn check(
        &self,
        node: Option<&Node>,
        at: &Range<usize>,
        wanted: &Shape,
        what: &str,
        out: &mut Vec<Finding>,
    ) {
        match node {
            Some(node) => self.node(node, wanted, what, at, out),
            None => self.compare(&Shape::of(Kinds::NULL), wanted, at, what, out),
        }
    }

    fn node(&self, node: &Node, wanted: &Shape, what: &str, owner: &Range<usize>, out: &mut Vec<Finding>) {
        if wanted.is_impossible() {
            return;
        }
        match &node.value {
            Yaml::Mapping(entries) if wanted.kinds.meets(Kinds::OBJECT) => {
                for entry in entries {
                    let inner = format!("`{}` of {what}", entry.key);
                    match wanted.field(&entry.key) {
                        Field::Declared { shape, .. } => self.node(&entry.value, &shape, &inner, &entry.key_span, out),
                        Field::Missing { closed } => {
                            out.extend(undeclared(&entry.key, &entry.key_span, wanted, what, closed))
                        }
                        Field::Unknown => {}
                    }
                }
                let absent =
                    wanted.required().into_iter().filter(|name| entries.iter().all(|entry| entry.key != *name));
                out.extend(absent.map(|name| lacks(&name, owner, what)));
            }
            Yaml::Sequence(items) if wanted.kinds.meets(Kinds::ARRAY) => {
                let inner = wanted.items();
                for (at, item) in items.iter().enumerate() {
                    self.node(item, &inner, &format!("item {at} of {what}"), &item.span, out);
                }
            }
            Yaml::Scalar(_) | Yaml::Sequence(_) | Yaml::Mapping(_) => {
                self.compare(&self.shape(node), wanted, &super::first_line(self.text, &node.span), what, out);
            }
        }
    }

    /// Returns the shape of a value as it is written.
    pub(super) fn shape(&self, node: &Node) -> Shape {
        match &node.value {
            Yaml::Scalar(scalar) => match (self.shapes.get(&node.span.start).map(Vec::as_slice), scalar.meaning()) {
                (Some([(Wants::Value | Wants::Alone, shape)]), _) => shape.clone(),
                (Some(_), _) => Shape::of(Kinds::STRING),
                (None, Meaning::Null) => Shape::of(Kinds::NULL),
                (None, Meaning::Bool(_)) => Shape::of(Kinds::BOOLEAN),
                (None, Meaning::Number(_)) => Shape::of(Kinds::NUMBER),
                (None, Meaning::Text(text)) => literal(&Payload::of(text)),
            },
            Yaml::Sequence(items) => {
                Shape::list(items.iter().map(|item| self.shape(item)).reduce(Shape::either).unwrap_or_else(Shape::any))
            }
            Yaml::Mapping(entries) => {
                Shape::object(Fields::built(entries.iter().map(|entry| (entry.key.clone(), self.shape(&entry.value)))))
            }
        }
    }

    /// Compares what is given with what a schema wants.
    pub(super) fn compare(&self, given: &Shape, wanted: &Shape, at: &Range<usize>, what: &str, out: &mut Vec<Finding>) {
        compare(given, wanted, at, what, DEPTH_MAX, out);
    }
}

fn compare(given: &Shape, wanted: &Shape, at: &Range<usize>, what: &str, depth: usize, out: &mut Vec<Finding>) {
    if given.is_impossible() || wanted.is_impossible() || depth == 0 {
        return;
    }
    // A null may be left out or stated; where something is there, it is of these kinds.
    let real = match given.kinds.without(Kinds::NULL) {
        Kinds::NONE => given.kinds,
        real => real,
    };
    if !real.meets(wanted.kinds) {
        let message = format!("{what} is {real} here; the schema wants {}", wanted.kinds);
        out.push(Finding::new("S080", at.clone(), message));
        return;
    }
    if let (Some(words), Some(known), true) = (given.known_words(), wanted.known_words(), real == Kinds::STRING)
        && words.intersection(known).next().is_none()
        && wanted.kinds == Kinds::STRING
    {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let word = words.first().map(String::as_str).unwrap_or_default();
        let help = match suggest(word, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it is one of {}", names.join(", ")),
        };
        out.push(Finding::new("S080", at.clone(), format!("{what} cannot be `{word}`")).help(help));
        return;
    }
    if real == Kinds::ARRAY {
        compare(&given.items(), &wanted.items(), at, &format!("an item of {what}"), depth - 1, out);
    }
    if real != Kinds::OBJECT {
        return;
    }
    for name in wanted.required() {
        if let Field::Missing { closed: true } = given.field(&name) {
            out.push(lacks(&name, at, what));
        }
    }
    for name in given.names() {
        match (given.field(&name), wanted.field(&name)) {
            (Field::Declared { shape, .. }, Field::Declared { shape: wanted, .. }) => {
                compare(&shape, &wanted, at, &format!("`{name}` of {what}"), depth - 1, out);
            }
            (Field::Declared { always: true, .. }, Field::Missing { closed }) => {
                out.extend(undeclared(&name, at, wanted, what, closed));
            }
            _ => {}
        }
    }
}

fn lacks(name: &str, at: &Range<usize>, what: &str) -> Finding {
    let message = format!("{what} lacks `{name}`, which its schema requires");
    Finding::new("S080", at.clone(), message).help(format!("add `{name}`"))
}

fn undeclared(name: &str, at: &Range<usize>, wanted: &Shape, what: &str, closed: bool) -> Option<Finding> {
    let names = wanted.names();
    let near = suggest(name, names.iter().map(String::as_str));
    let help = match near {
        Some(near) => format!("did you mean `{near}`?"),
        // An open schema takes more than it declares.
        None if !closed => return None,
        None => format!("it has {}", names.iter().cloned().collect::<Vec<_>>().join(", ")),
    };
    Some(Finding::new("S080", at.clone(), format!("the schema of {what} has no `{name}`")).help(help))
}
