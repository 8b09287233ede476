//! A finding about a step of a file that has been loaded: what can be judged only with other files at hand.

use std::ops::Range;

use super::diagnostic::{self, Diagnostic, Finding};
use super::yaml::{self, Node, Yaml};

/// Places a finding at a key of a step, by the step's id; at the file's beginning where neither is found.
#[must_use]
pub fn at_step(
    file: &str,
    text: &str,
    (id, key): (&str, &str),
    code: &'static str,
    message: String,
    help: String,
) -> Diagnostic {
    let tree = yaml::parse(text).0;
    let span = tree.as_ref().and_then(|tree| of_step(tree, id, key)).unwrap_or(0..0);
    let mut placed = diagnostic::placed(file, text, vec![Finding::new(code, span, message).help(help)]);
    placed.remove(0)
}

/// Returns where the value of a step's key stands.
pub(super) fn of_step(node: &Node, id: &str, key: &str) -> Option<Range<usize>> {
    match &node.value {
        Yaml::Scalar(_) => None,
        Yaml::Sequence(items) => items.iter().find_map(|item| of_step(item, id, key)),
        Yaml::Mapping(entries) => {
            let value = |name: &str| entries.iter().find(|entry| entry.key == name);
            let own = value("id")
                .is_some_and(|entry| matches!(&entry.value.value, Yaml::Scalar(scalar) if scalar.text == id));
            if own && let Some(entry) = value(key) {
                return Some(match &entry.value.value {
                    Yaml::Scalar(_) => entry.value.span.clone(),
                    Yaml::Sequence(_) | Yaml::Mapping(_) => entry.key_span.clone(),
                });
            }
            entries.iter().find_map(|entry| of_step(&entry.value, id, key))
        }
    }
}
