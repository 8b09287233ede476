//! `where` of an `await` or a `reply`: a condition that no event of the awaited types can meet.

use super::super::diagnostic::Finding;
use super::super::yaml::{Entry, Node, Yaml};
use super::fits::Data;
use super::variables::{Variables, member};
use crate::expression::suggest;
use crate::id::EventType;
use crate::schema::shape::{Field, Kinds, Shape};

/// Checks every `where` below a node.
pub(super) fn check(node: &Node, variables: &Variables<'_>, data: &Data<'_>, out: &mut Vec<Finding>) {
    match &node.value {
        Yaml::Scalar(_) => {}
        Yaml::Sequence(items) => items.iter().for_each(|item| check(item, variables, data, out)),
        Yaml::Mapping(entries) => {
            if let Some(Yaml::Mapping(conditions)) = member(node, "where").map(|found| &found.value) {
                let awaited = types(member(node, "await"));
                let types = if awaited.is_empty() { types(member(node, "done")) } else { awaited };
                let events: Option<Vec<(EventType, Shape)>> =
                    types.into_iter().map(|kind| Some((kind.clone(), variables.arriving(&kind)?))).collect();
                for (condition, events) in conditions.iter().zip(std::iter::repeat(events.unwrap_or_default())) {
                    out.extend(never(condition, &events, data));
                }
            }
            entries.iter().for_each(|entry| check(&entry.value, variables, data, out));
        }
    }
}

/// Reads `TYPE`, `[TYPE…]`, `{any: …}` and `{all: …}`.
fn types(node: Option<&Node>) -> Vec<EventType> {
    match node.map(|node| &node.value) {
        Some(Yaml::Scalar(scalar)) => EventType::parse(&scalar.text).into_iter().collect(),
        Some(Yaml::Sequence(items)) => items.iter().flat_map(|item| types(Some(item))).collect(),
        Some(Yaml::Mapping(entries)) => entries.iter().flat_map(|entry| types(Some(&entry.value))).collect(),
        None => Vec::new(),
    }
}

/// Says why a condition holds for no event, if for none it can.
fn never(condition: &Entry, events: &[(EventType, Shape)], data: &Data<'_>) -> Option<Finding> {
    let wanted = data.shape(&condition.value);
    let mut why = None;
    for (kind, event) in events {
        why = Some(match followed(event, &condition.key) {
            Err(finding) => {
                let message = format!("`{kind}` has no `{}`: this never matches", condition.key);
                Finding::new("S042", condition.key_span.clone(), message).help(finding)
            }
            Ok(there) => disjoint(&there, &wanted, condition, data)?,
        });
    }
    why
}

/// Follows a path from the event's root. `Err` names what was meant, where it leads nowhere.
fn followed(event: &Shape, path: &str) -> Result<Shape, String> {
    let mut shape = event.clone();
    for part in path.split('.') {
        shape = match shape.field(part) {
            Field::Declared { shape, .. } => shape,
            Field::Unknown => return Ok(Shape::any()),
            Field::Missing { closed } => {
                let names = shape.names();
                match suggest(part, names.iter().map(String::as_str)) {
                    Some(near) => return Err(format!("did you mean `{near}`?")),
                    None if !closed => return Ok(Shape::any()),
                    None => return Err(format!("it has {}", names.into_iter().collect::<Vec<_>>().join(", "))),
                }
            }
        };
    }
    Ok(shape)
}

/// Says so where no value of one shape equals one of the other; none where one may.
fn disjoint(there: &Shape, wanted: &Shape, condition: &Entry, data: &Data<'_>) -> Option<Finding> {
    if there.is_impossible() || wanted.is_impossible() {
        return None;
    }
    let span = super::first_line(data.text, &condition.value.span);
    let both = there.kinds.and(wanted.kinds).without(Kinds::NULL);
    let (is, be) = (there.kinds.without(Kinds::NULL), wanted.kinds.without(Kinds::NULL));
    if both == Kinds::NONE && is != Kinds::NONE && be != Kinds::NONE {
        let message = format!("`{}` is {is} in the event, this is {be}: it never matches", condition.key);
        return Some(Finding::new("S042", span, message));
    }
    let (Some(known), Some(word)) = (there.known_words(), wanted.known_words()) else { return None };
    if !both.within(Kinds::STRING) || known.intersection(word).next().is_some() {
        return None;
    }
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let word = word.first()?;
    let help = match suggest(word, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it is one of {}", names.join(", ")),
    };
    let message = format!("`{}` is never `{word}`: it never matches", condition.key);
    Some(Finding::new("S042", span, message).help(help))
}
