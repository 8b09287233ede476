//! Reads typed values out of the YAML tree and collects what is wrong. A value that is wrong is
//! reported where it is read and gives none, so that one mistake makes one diagnostic.

use std::ops::Range;

use super::diagnostic::Finding;
use super::model::StepIndex;
use super::yaml::{Entry, Meaning, Node, Yaml, locate};
use crate::expression::{CompileError, Expression, Name, Root, Template, TextTemplate, suggest};
use crate::payload::Payload;
use crate::time::Span;

/// Where an expression stands; decides which steps it may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Triggers and `lock`: no step.
    Outside,
    /// In a step, going forward.
    Forward(StepIndex),
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

pub(super) struct Reader<'s> {
    /// The file's text.
    pub text: &'s str,
    pub findings: Vec<Finding>,
    pub uses: Vec<Use>,
    expressions: usize,
}

/// A mapping whose keys were checked.
#[derive(Clone, Copy)]
pub(super) struct Map<'n> {
    pub entries: &'n [Entry],
    /// Where to point when something is missing.
    pub span: &'n Range<usize>,
    /// What it may have; and what the language has there, but not this version.
    pub known: &'static [&'static str],
    pub later: &'static [&'static str],
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
            self.later.contains(&key)
                || (!self.known.contains(&key) && suggest(key, self.known.iter().copied()) == Some(missing))
        })
    }
}

impl<'s> Reader<'s> {
    pub(super) fn new(text: &'s str, findings: Vec<Finding>) -> Self {
        Self { text, findings, uses: Vec::new(), expressions: 0 }
    }

    pub(super) fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn shape(&mut self, node: &Node, wanted: &str) {
        let message = format!("{wanted} belongs here, not {}", node.kind());
        self.find(Finding::new("S006", self.first_line(&node.span), message));
    }

    /// Cuts a span at the end of its first line: a caret under a whole mapping says nothing.
    pub(super) fn first_line(&self, span: &Range<usize>) -> Range<usize> {
        let end = self.text[span.clone()].find('\n').map_or(span.end, |at| span.start + at);
        span.start..end
    }

    /// Reads a mapping and checks its keys; `later` are keys of the language that this version lacks.
    pub(super) fn mapping<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: &'static [&'static str],
        later: &'static [&'static str],
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
            let finding = if later.contains(&key) {
                Finding::new("S008", entry.key_span.clone(), format!("`{key}` is not available in this version"))
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
        Some(Map { entries, span: &node.span, known, later })
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

    /// Reads `${ … }`, the whole of a scalar; `true` and `false` are taken as they are.
    pub(super) fn expression(&mut self, node: &Node, roots: &[Root], at: At) -> Option<Expression> {
        let Yaml::Scalar(scalar) = &node.value else {
            self.shape(node, "an expression ${ … }");
            return None;
        };
        let text = scalar.text.as_str();
        if let Meaning::Bool(bool) = scalar.meaning() {
            return Expression::compile(if bool { "true" } else { "false" }, roots).ok();
        }
        let inner = text.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let inner = inner.filter(|inner| !inner.contains("${"));
        let Some(inner) = inner else {
            let message = "an expression ${ … } belongs here".to_owned();
            let help = if text.contains("${") {
                "let one ${ and one } enclose the whole".to_owned()
            } else {
                format!("write ${{ {} }}", shorten(text))
            };
            self.find(Finding::new("S012", self.first_line(&node.span), message).help(help));
            return None;
        };
        let offset = inner.as_ptr() as usize - text.as_ptr() as usize;
        match Expression::compile(inner, roots) {
            Ok(expression) => {
                self.uses(&expression, node, text, offset, at);
                Some(expression)
            }
            Err(errors) => {
                self.refused(errors, node, text, offset);
                None
            }
        }
    }

    /// Reads text with expressions in it.
    pub(super) fn text_template(&mut self, node: &Node, what: &str, roots: &[Root], at: At) -> Option<TextTemplate> {
        let Yaml::Scalar(scalar) = &node.value else {
            self.shape(node, what);
            return None;
        };
        if scalar.meaning() == Meaning::Null {
            let message = format!("{what} is text, not nothing");
            self.find(Finding::new("S006", node.span.clone(), message).help("write a value, or leave the key out"));
            return None;
        }
        match TextTemplate::compile(&scalar.text, roots) {
            Ok(template) => {
                for (offset, expression) in template.expressions() {
                    self.uses(expression, node, &scalar.text, offset, at);
                }
                self.stated_null(node, &scalar.text, &template.expressions().collect::<Vec<_>>());
                Some(template)
            }
            Err(errors) => {
                self.refused(errors, node, &scalar.text, 0);
                None
            }
        }
    }

    /// Reads a JSON value with expressions in it.
    pub(super) fn template(&mut self, node: &Node, roots: &[Root], at: At) -> Option<Template> {
        match &node.value {
            Yaml::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => Some(Template::literal(&Payload::null())),
                Meaning::Bool(bool) => Some(Template::literal(&Payload::of(&bool))),
                Meaning::Number(text) => Payload::parse(text).ok().map(|number| Template::literal(&number)),
                Meaning::Text(text) => {
                    if scalar.plain && is_yaml_1_1_boolean(text) {
                        let finding =
                            Finding::new("S070", node.span.clone(), format!("`{text}` is text here, not a boolean"));
                        self.find(finding.warning().help(format!("write \"{text}\" to say so, or true or false")));
                    }
                    match Template::text(text, roots) {
                        Ok(template) => {
                            let expressions = template.expressions();
                            for (offset, expression) in &expressions {
                                self.uses(expression, node, text, *offset, at);
                            }
                            self.stated_null(node, text, &expressions);
                            Some(template)
                        }
                        Err(errors) => {
                            self.refused(errors, node, text, 0);
                            None
                        }
                    }
                }
            },
            Yaml::Sequence(items) => {
                let items: Vec<_> = items.iter().map(|item| self.template(item, roots, at)).collect();
                Some(Template::array(items.into_iter().collect::<Option<_>>()?))
            }
            Yaml::Mapping(entries) => {
                let mut members = Vec::with_capacity(entries.len());
                let mut whole = true;
                for entry in entries {
                    if entry.key.contains("${") {
                        let message = "a key is literal; an expression cannot stand here";
                        let help = "build the object in one expression: ${ {(…): …} }";
                        self.find(Finding::new("S012", entry.key_span.clone(), message).help(help));
                    }
                    match self.template(&entry.value, roots, at) {
                        Some(template) => members.push((entry.key.clone(), template)),
                        None => whole = false,
                    }
                }
                whole.then(|| Template::object(members))
            }
        }
    }

    /// Reads a JSON value without expressions.
    pub(super) fn json(&mut self, node: &Node) -> Payload {
        fn value(node: &Node) -> serde_json::Value {
            match &node.value {
                Yaml::Scalar(scalar) => match scalar.meaning() {
                    Meaning::Null => serde_json::Value::Null,
                    Meaning::Bool(bool) => bool.into(),
                    Meaning::Number(text) => serde_json::from_str(text).unwrap_or_default(),
                    Meaning::Text(text) => text.into(),
                },
                Yaml::Sequence(items) => items.iter().map(value).collect(),
                Yaml::Mapping(entries) => entries
                    .iter()
                    .map(|entry| (entry.key.clone(), value(&entry.value)))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
            }
        }
        Payload::of(&value(node))
    }

    fn uses(&mut self, expression: &Expression, node: &Node, text: &str, offset: usize, at: At) {
        self.expressions += 1;
        let source = &text[offset..offset + expression.source_bytes()];
        let base = locate(self.text, &node.span, text, offset);
        // Written without escapes and folding, it stands in the file as it is.
        let plain = self.text[base..].starts_with(source);
        for read in expression.reads() {
            let span = if plain {
                base + read.span.start..base + read.span.end
            } else {
                self.inside(node, text, offset + read.span.start, offset + read.span.end)
            };
            self.uses.push(Use {
                name: read.name.clone(),
                span,
                guarded: read.guarded,
                at,
                expression: self.expressions,
            });
        }
    }

    /// `// null` inside a longer text: the null has nowhere to go.
    fn stated_null(&mut self, node: &Node, text: &str, expressions: &[(usize, &Expression)]) {
        for (offset, expression) in expressions {
            let end = offset + expression.source_bytes();
            let whole = *offset == "${".len() && end + "}".len() == text.len();
            if expression.states_null() && !whole {
                let span = self.inside(node, text, *offset, end);
                let message = "null cannot stand inside text";
                let help = "write another text behind `//`, or make the expression the whole value";
                self.find(Finding::new("S034", span, message).help(help));
            }
        }
    }

    fn refused(&mut self, errors: Vec<CompileError>, node: &Node, text: &str, offset: usize) {
        for error in errors {
            let span = self.inside(node, text, offset + error.span.start, offset + error.span.end);
            let mut finding = Finding::new(error.code, span, error.message);
            finding.help = error.help;
            self.find(finding);
        }
    }

    /// Returns the file's bytes for bytes of a scalar's text.
    pub(super) fn inside(&self, node: &Node, text: &str, start: usize, end: usize) -> Range<usize> {
        let from = locate(self.text, &node.span, text, start);
        // Expressions are rarely escaped: the end is as far from the start as in the text.
        let to = (from + (end - start)).min(node.span.end).max(from);
        self.first_line(&(from..super::yaml::floor(self.text, to)))
    }
}

fn is_yaml_1_1_boolean(text: &str) -> bool {
    matches!(text, "yes" | "Yes" | "YES" | "no" | "No" | "NO" | "on" | "On" | "ON" | "off" | "Off" | "OFF")
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
