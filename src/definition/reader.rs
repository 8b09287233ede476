//! Reads typed values out of the YAML tree and collects what is wrong. A value that is wrong is
//! reported where it is read and gives none, so that one mistake makes one diagnostic.

use std::ops::Range;

use super::diagnostic::Finding;
use super::model::{InputSchema, StepIndex};
use super::yaml::{Entry, Meaning, Node, Yaml};
use crate::expression::{Name, suggest};
use crate::id::EventType;
use crate::time::Span;

/// Where an expression stands; decides which steps it may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Triggers and `lock`: no step.
    Outside,
    /// In a step, going forward.
    Forward(StepIndex),
    /// In what handles the step's failure, before the steps that do.
    Handler(StepIndex),
    /// The step's own `if`, or the `when` of an arm: a status read here guards what follows.
    Condition(StepIndex),
    /// In a step's `compensate`; `conditional` where that has an `if` of its own.
    Undo { step: StepIndex, conditional: bool },
    /// The saga's `output`.
    Output,
    /// `finally`: any step.
    Finally,
}

/// One place that reads a variable.
#[derive(Debug, Clone)]
pub(super) struct Use {
    pub name: Name,
    /// Bytes of the file.
    pub span: Range<usize>,
    pub guarded: bool,
    pub at: At,
    /// Numbers the expression, so that reads of one expression are known to be together.
    pub expression: usize,
}

/// What the place of an expression does with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// It stands alone behind a key that says what it must yield.
    Alone,
    /// It becomes part of a text.
    Text,
    /// Any value will do.
    Value,
}

/// An expression as it is written, for what follows from schemas.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// What stands between `${` and `}`.
    pub source: Box<str>,
    /// Bytes of the scalar that it stands in.
    pub scalar: Range<usize>,
    /// Where its source begins in the file.
    pub base: usize,
    /// The scalar's text and where the source begins in it, where escapes or folding make it another than
    /// what stands in the file.
    pub decoded: Option<(Box<str>, usize)>,
    pub at: At,
    pub wants: Wants,
    /// What the steps around bind.
    pub locals: Box<[(String, Name)]>,
}

/// An event that is emitted, for its data's schema.
#[derive(Debug, Clone)]
pub(super) struct Emitted {
    pub event: EventType,
    /// Where the type stands.
    pub span: Range<usize>,
    pub data: Option<Node>,
}

/// Which answer `$result` is, where it is not any answer to the step's own call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerTo {
    /// A success of the step's call.
    Call,
    /// Any answer to the check.
    Check,
    /// A success of the check.
    Checked,
}

/// A value that is held against a schema.
#[derive(Debug, Clone)]
pub(super) struct Shaped {
    /// What messages call it.
    pub what: &'static str,
    pub node: Node,
    pub schema: InputSchema,
}

pub(super) struct Reader<'s> {
    /// The file's text.
    pub text: &'s str,
    pub findings: Vec<Finding>,
    pub uses: Vec<Use>,
    pub written: Vec<Written>,
    pub emitted: Vec<Emitted>,
    pub shaped: Vec<Shaped>,
    /// Where in the file `$result` is which answer; the innermost counts.
    pub answers: Vec<(Range<usize>, AnswerTo)>,
    /// How many expressions were read.
    pub expressions: usize,
    /// What the steps around bind: items of a `for`, the failure in a `catch`.
    pub locals: Vec<(String, Name)>,
}

/// A mapping whose keys were checked.
#[derive(Clone, Copy)]
pub(super) struct Map<'n> {
    pub entries: &'n [Entry],
    /// Where to point when something is missing.
    pub span: &'n Range<usize>,
    /// What it may have.
    pub known: &'static [&'static str],
}

impl<'n> Map<'n> {
    pub(super) fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// True where a key that was refused already is why this one is missing.
    fn explains(&self, missing: &str) -> bool {
        self.entries.iter().any(|entry| {
            let key = entry.key.as_str();
            !self.known.contains(&key) && suggest(key, self.known.iter().copied()) == Some(missing)
        })
    }
}

impl<'s> Reader<'s> {
    pub(super) fn new(text: &'s str, findings: Vec<Finding>) -> Self {
        Self {
            text,
            findings,
            uses: Vec::new(),
            written: Vec::new(),
            emitted: Vec::new(),
            shaped: Vec::new(),
            answers: Vec::new(),
            expressions: 0,
            locals: Vec::new(),
        }
    }

    pub(super) fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub(super) fn shape(&mut self, node: &Node, wanted: &str) {
        let message = format!("{wanted} belongs here, not {}", node.kind());
        self.find(Finding::new("S006", self.first_line(&node.span), message));
    }

    /// Cuts a span at the end of its first line: a caret under a whole mapping says nothing.
    pub(super) fn first_line(&self, span: &Range<usize>) -> Range<usize> {
        let end = self.text[span.clone()].find('\n').map_or(span.end, |at| span.start + at);
        span.start..end
    }

    /// Reads a mapping and checks its keys; `elsewhere` are those that the configuration has for the same thing.
    pub(super) fn mapping<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: &'static [&'static str],
        elsewhere: &'static [&'static str],
    ) -> Option<Map<'n>> {
        let Yaml::Mapping(entries) = &node.value else {
            self.shape(node, "a mapping");
            return None;
        };
        for entry in entries {
            let key = entry.key.as_str();
            if known.contains(&key) {
                continue;
            }
            let finding = if elsewhere.contains(&key) {
                Finding::new("S008", entry.key_span.clone(), format!("`{key}` belongs into the configuration"))
                    .help(format!("{what} has {}", listed(known)))
            } else {
                let help = match suggest(key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("{what} has {}", listed(known)),
                };
                Finding::new("S007", entry.key_span.clone(), format!("{what} has no key `{key}`")).help(help)
            };
            self.find(finding);
        }
        Some(Map { entries, span: &node.span, known })
    }

    /// Reads a list.
    pub(super) fn list<'n>(&mut self, node: &'n Node) -> Option<&'n [Node]> {
        match &node.value {
            Yaml::Sequence(items) => Some(items),
            Yaml::Scalar(_) | Yaml::Mapping(_) => {
                self.shape(node, "a list");
                None
            }
        }
    }

    /// Returns a key's value, or says that it is missing.
    pub(super) fn required<'n>(&mut self, map: Map<'n>, what: &str, key: &str, help: &str) -> Option<&'n Node> {
        let found = map.get(key);
        if found.is_none() && !map.explains(key) {
            let at = map.entries.first().map_or_else(|| map.span.clone(), |entry| entry.key_span.clone());
            let at = self.first_line(&at);
            self.find(Finding::new("S009", at, format!("{what} has no `{key}`")).help(help));
        }
        found
    }

    /// Reads literal text: no expression, no number.
    pub(super) fn literal<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Yaml::Scalar(scalar) => match scalar.meaning() {
                Meaning::Text(text) if !text.contains("${") => return Some(text),
                Meaning::Text(_) => {
                    let message = format!("{what} is literal; an expression cannot stand here");
                    self.find(Finding::new("S012", node.span.clone(), message));
                }
                Meaning::Null | Meaning::Bool(_) | Meaning::Number(_) => {
                    let message = format!("{what} is text, not {}", node.kind());
                    self.find(Finding::new("S006", node.span.clone(), message).help("quote it if this text is meant"));
                }
            },
            Yaml::Sequence(_) | Yaml::Mapping(_) => self.shape(node, "text"),
        }
        None
    }

    /// Reads literal text into a type that parses.
    pub(super) fn parsed<T, E: std::fmt::Display>(
        &mut self,
        node: &Node,
        what: &str,
        code: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.literal(node, what)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.find(Finding::new(code, node.span.clone(), error.to_string()));
                None
            }
        }
    }

    /// Reads a boolean.
    pub(super) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        if let Yaml::Scalar(scalar) = &node.value {
            match scalar.meaning() {
                Meaning::Bool(bool) => return Some(bool),
                Meaning::Text(text) => {
                    let meant = match text.to_ascii_lowercase().as_str() {
                        "yes" | "on" | "y" => "in YAML 1.2 this is text; write true",
                        "no" | "off" | "n" => "in YAML 1.2 this is text; write false",
                        _ => "write true or false",
                    };
                    let message = format!("{what} is true or false, not `{}`", shorten(text));
                    self.find(Finding::new("S006", node.span.clone(), message).help(meant));
                    return None;
                }
                Meaning::Null | Meaning::Number(_) => {}
            }
        }
        self.shape(node, "true or false");
        None
    }

    /// Reads a whole number.
    pub(super) fn integer(&mut self, node: &Node, what: &str, from: u32, to: u32) -> Option<u32> {
        if let Yaml::Scalar(scalar) = &node.value
            && let Meaning::Number(text) = scalar.meaning()
        {
            let number = text.parse().ok().filter(|number| (from..=to).contains(number));
            if number.is_none() {
                let message = format!("{what} is a whole number from {from} to {to}, not {}", shorten(text));
                self.find(Finding::new("S013", node.span.clone(), message));
            }
            return number;
        }
        self.shape(node, "a whole number");
        None
    }

    /// Reads a duration.
    pub(super) fn span(&mut self, node: &Node, what: &str) -> Option<Span> {
        if let Yaml::Scalar(scalar) = &node.value {
            match scalar.meaning() {
                Meaning::Text(text) if text.contains("${") => {
                    let message = format!("{what} is a literal duration; an expression cannot stand here");
                    self.find(Finding::new("S012", node.span.clone(), message));
                    return None;
                }
                Meaning::Text(text) => {
                    return match Span::parse(text) {
                        Ok(span) => Some(span),
                        Err(error) => {
                            let message = format!("{what}: {error}");
                            self.find(Finding::new("S011", node.span.clone(), message));
                            None
                        }
                    };
                }
                Meaning::Number(text) => {
                    let message = format!("{what} is a duration and needs its unit");
                    let help = format!("write {0}s for seconds or {0}ms for milliseconds", shorten(text));
                    self.find(Finding::new("S011", node.span.clone(), message).help(help));
                    return None;
                }
                Meaning::Null | Meaning::Bool(_) => {}
            }
        }
        self.shape(node, "a duration such as 3s");
        None
    }

    /// Reads one of a few words.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.literal(node, what)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let help = match suggest(text, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.len() == 1 => format!("write {}", listed(&known)),
                None => format!("write one of {}", listed(&known)),
            };
            let message = format!("{what} cannot be `{}`", shorten(text));
            self.find(Finding::new("S013", node.span.clone(), message).help(help));
        }
        found
    }
}

/// Writes words as a list.
pub(super) fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Returns text as it may stand in a message.
pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
