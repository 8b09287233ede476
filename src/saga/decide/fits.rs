//! Whether a step's output is what the file says it has to be.

use super::super::input::Rules;
use crate::definition::OutputSchema;
use crate::payload::Payload;
use crate::problem::{Problem, kind};

/// Returns what is wrong with an output, place by place; none where it fits, or where nothing is said.
pub fn misfit(rules: &Rules, wanted: Option<&OutputSchema>, output: &Payload) -> Option<Problem> {
    let detail = match wanted? {
        OutputSchema::Event(event) => (rules.check_event)(event, output).err()?,
        OutputSchema::Inline { schema, .. } => {
            let places = schema.validate(output).err()?.into_iter().map(|violation| {
                let place = if violation.pointer.is_empty() { "(root)" } else { &*violation.pointer };
                format!("{place}: {}", violation.message)
            });
            places.collect::<Vec<_>>().join("; ")
        }
    };
    Some(Problem::new(kind::INVALID_OUTPUT, "the output does not fit its schema").detail(detail))
}
