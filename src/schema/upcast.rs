//! Steps between versions of an event type: `vN.from-vM.jq`, one version at a time. Up they lead to newer
//! versions, down to older ones; the steps of a way are taken one by one and each result is validated.

use std::fmt;

use super::{Finding, Registry, Violation};
use crate::expression::{Bound, Expression, Root, Scope, Variable};
use crate::id::EventType;
use crate::payload::Payload;

/// What stands around the file's text: `.` is the data, which expressions know as `$input`.
const BEFORE: &str = "$input|(";
const BEHIND: &str = ")";

/// One compiled step.
#[derive(Debug)]
pub struct Upcaster {
    /// The file's path as it was handed over.
    pub path: String,
    pub from: EventType,
    pub to: EventType,
    expression: Expression,
}

struct Data(Payload);

impl Scope for Data {
    fn get(&self, variable: Variable<'_>) -> Bound<'_> {
        match variable {
            Variable::Input => Bound::Json(&self.0),
            _ => Bound::Null,
        }
    }
}

/// Why data of one version cannot be given to a consumer of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoWay {
    /// The data breaks its own schema.
    Invalid { event: EventType, violations: Vec<Violation> },
    /// No step leads there, and the data is no data of the version it should become.
    NoPath { from: u32, to: u32, violations: Vec<Violation> },
    /// A step ended in an error.
    Failed { path: String, message: String },
    /// What a step made breaks the schema.
    InvalidResult { path: String, event: EventType, violations: Vec<Violation> },
}

impl NoWay {
    /// Returns the word for dead letters.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Invalid { .. } => "invalid_data".to_owned(),
            Self::NoPath { from, to, .. } => format!("no_path_v{from}_to_v{to}"),
            Self::Failed { .. } => "upcaster_failed".to_owned(),
            Self::InvalidResult { .. } => "upcast_invalid".to_owned(),
        }
    }

    /// Returns the places that are wrong.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        match self {
            Self::Invalid { violations, .. }
            | Self::NoPath { violations, .. }
            | Self::InvalidResult { violations, .. } => violations,
            Self::Failed { .. } => &[],
        }
    }
}

/// Returns jq without its comments, which expressions do not have; every other byte stays at its place.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_text, mut escaped, mut in_comment) = (false, false, false);
    for c in text.chars() {
        match c {
            '\n' => in_comment = false,
            '#' if !in_text => in_comment = true,
            '"' if !in_comment && !escaped => in_text = !in_text,
            _ => {}
        }
        escaped = in_text && c == '\\' && !escaped;
        if in_comment {
            out.extend(std::iter::repeat_n(' ', c.len_utf8()));
        } else {
            out.push(c);
        }
    }
    out
}

fn places(violations: &[Violation]) -> String {
    let one = |violation: &Violation| {
        let place = if violation.pointer.is_empty() { "(root)" } else { &violation.pointer };
        format!("{place}: {}", violation.message)
    };
    violations.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl fmt::Display for NoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { event, violations } => write!(f, "the data breaks {event}: {}", places(violations)),
            Self::NoPath { from, to, violations } => {
                let step = if from < to {
                    format!("v{}.from-v{from}.jq", from + 1)
                } else {
                    format!("v{}.from-v{from}.jq", from - 1)
                };
                write!(f, "no way from v{from} to v{to}: there is no {step}, and the data is none of v{to}")?;
                if violations.is_empty() { Ok(()) } else { write!(f, ": {}", places(violations)) }
            }
            Self::Failed { path, message } => write!(f, "{path} failed: {message}"),
            Self::InvalidResult { path, event, violations } => {
                write!(f, "what {path} made breaks {event}: {}", places(violations))
            }
        }
    }
}

impl Upcaster {
    /// Compiles a step.
    ///
    /// # Errors
    /// Every mistake with its line and column.
    pub(super) fn compile(path: &str, from: EventType, to: EventType, text: &str) -> Result<Self, Vec<Finding>> {
        let source = format!("{BEFORE}{}{BEHIND}", without_comments(text));
        match Expression::compile(&source, &[Root::Input]) {
            Ok(expression) => Ok(Self { path: path.to_owned(), from, to, expression }),
            Err(errors) => {
                let located = |error: crate::expression::CompileError| {
                    let at = error.span.start.saturating_sub(BEFORE.len()).min(text.len());
                    let before = &text[..text.floor_char_boundary(at)];
                    let line = before.matches('\n').count() + 1;
                    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                    let help = error.help.map_or_else(String::new, |help| format!("; {help}"));
                    Finding::of_line(path, line, format!("column {column}: {}{help}", error.message))
                };
                Err(errors.into_iter().map(located).collect())
            }
        }
    }

    /// Runs the step.
    ///
    /// # Errors
    /// jq's error, or a used-up budget.
    pub(super) fn run(&self, data: &Payload) -> Result<Payload, NoWay> {
        self.expression
            .eval(&Data(data.clone()))
            .map_err(|error| NoWay::Failed { path: self.path.clone(), message: error.message })
    }
}

impl Registry {
    /// Returns event data as a consumer of another version sees it; validated before and after.
    ///
    /// Up, every step needs its upcaster, or data that fits the next version as it is. Down, data that fits the
    /// wanted version is taken as it is, else a downcaster is asked.
    ///
    /// # Errors
    /// [`NoWay`].
    pub fn convert(&self, event: &EventType, data: &Payload, to: u32) -> Result<Payload, NoWay> {
        self.validate(event, data).map_err(|violations| NoWay::Invalid { event: event.clone(), violations })?;
        let (mut at, mut data) = (event.version(), data.clone());
        while at != to {
            let next = if at < to { at + 1 } else { at - 1 };
            if let Some(step) = self.step(event.name(), at, next) {
                let made = step.run(&data)?;
                self.validate(&step.to, &made).map_err(|violations| NoWay::InvalidResult {
                    path: step.path.clone(),
                    event: step.to.clone(),
                    violations,
                })?;
                (at, data) = (next, made);
                continue;
            }
            // A newer event may be read as what the consumer knows, whatever lies between.
            let wanted = if at > to { to } else { next };
            let fits = |version| match self.of_version(event.name(), version) {
                Some(known) => self.validate(known, &data),
                None => Err(Vec::new()),
            };
            match fits(wanted) {
                Ok(()) => at = wanted,
                Err(violations) if at > to => match fits(next) {
                    // Perhaps a downcaster begins there.
                    Ok(()) if next != to => at = next,
                    _ => return Err(NoWay::NoPath { from: event.version(), to, violations }),
                },
                Err(violations) => return Err(NoWay::NoPath { from: event.version(), to, violations }),
            }
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_blank() {
        let rows = [
            ("a line", "# why: \u{e9}\n.a", "         \n.a"),
            ("behind", ".a # why", ".a      "),
            ("inside a text", r##".a + "#1" + "\"#" # why"##, r##".a + "#1" + "\"#"      "##),
        ];
        for (why, text, expected) in rows {
            assert_eq!(without_comments(text), expected, "{why}");
        }
    }

    fn registry(files: &[(&str, &str)]) -> Registry {
        Registry::load(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))).unwrap()
    }

    const NUMBER: &str = r#"{ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } }"#;
    const TEXT: &str = r#"{ "type": "object", "required": ["n"], "properties": { "n": { "type": "string" } } }"#;

    #[test]
    fn ways_between_versions() {
        let registry = registry(&[
            ("a.b/v1.json", TEXT),
            ("a.b/v2.json", NUMBER),
            ("a.b/v3.json", NUMBER),
            ("a.b/v4.json", TEXT),
            ("a.b/examples/v1.json", r#"{"n": "1"}"#),
            ("a.b/examples/v4.json", r#"{"n": "1"}"#),
            ("a.b/v2.from-v1.jq", ".n |= tonumber"),
            ("a.b/v3.from-v4.jq", ".n |= (tonumber | . * 10)"),
        ]);
        type Row<'a> = (&'a str, &'a str, &'a str, u32, Result<&'a str, &'a str>);
        let rows: &[Row<'_>] = &[
            // why, type, data, wanted version, data or reason
            ("the same", "a.b.v2", r#"{"n":7}"#, 2, Ok(r#"{"n":7}"#)),
            ("a step up", "a.b.v1", r#"{"n":"7"}"#, 2, Ok(r#"{"n":7}"#)),
            ("two steps, the second needs nothing", "a.b.v1", r#"{"n":"7"}"#, 3, Ok(r#"{"n":7}"#)),
            ("no step", "a.b.v3", r#"{"n":7}"#, 4, Err("no_path_v3_to_v4")),
            ("a downcaster, then nothing", "a.b.v4", r#"{"n":"7"}"#, 2, Ok(r#"{"n":70}"#)),
            ("down as it is", "a.b.v3", r#"{"n":7}"#, 2, Ok(r#"{"n":7}"#)),
            ("down where nothing leads", "a.b.v2", r#"{"n":7}"#, 1, Err("no_path_v2_to_v1")),
            ("an unknown version that fits", "a.b.v9", r#"{"n":7}"#, 2, Ok(r#"{"n":7}"#)),
            ("an unknown version that does not", "a.b.v9", r#"{"n":[]}"#, 2, Err("no_path_v9_to_v2")),
            ("data that breaks its own schema", "a.b.v1", "{}", 2, Err("invalid_data")),
            ("a step that fails", "a.b.v1", r#"{"n":"seven"}"#, 2, Err("upcaster_failed")),
            ("a step that makes what is none", "a.b.v1", r#"{"n":"1.5"}"#, 2, Err("upcast_invalid")),
        ];
        for (why, event_type, data, to, expected) in rows {
            let event_type = EventType::parse(event_type).unwrap();
            let made = registry.convert(&event_type, &Payload::parse(*data).unwrap(), *to);
            match (made, expected) {
                (Ok(made), Ok(data)) => assert_eq!(made.text(), *data, "{why}"),
                (Err(no_way), Err(reason)) => assert_eq!(no_way.reason(), *reason, "{why}: {no_way}"),
                (made, _) => panic!("{why}: {made:?}"),
            }
        }
    }
}
