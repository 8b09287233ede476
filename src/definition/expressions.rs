//! Reads expressions, and text and JSON values with expressions in them; notes what they read.

use std::ops::Range;

use super::diagnostic::Finding;
use super::locate::{floor, locate};
use super::reader::{At, Reader, Use, Wants, Written, shorten};
use super::yaml::{Meaning, Node, Yaml};
use crate::expression::{Allowed, CompileError, Expression, Root, Template, TextTemplate};
use crate::payload::Payload;

impl Reader<'_> {
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
        match Expression::compile(inner, Allowed { roots, locals: &self.locals }) {
            Ok(expression) => {
                self.uses(&expression, node, text, offset, at, Wants::Alone);
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
        match TextTemplate::compile(&scalar.text, Allowed { roots, locals: &self.locals }) {
            Ok(template) => {
                for (offset, expression) in template.expressions() {
                    self.uses(expression, node, &scalar.text, offset, at, Wants::Text);
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
                    match Template::text(text, Allowed { roots, locals: &self.locals }) {
                        Ok(template) => {
                            let expressions = template.expressions();
                            for (offset, expression) in &expressions {
                                self.uses(expression, node, text, *offset, at, Wants::Value);
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

    fn uses(&mut self, expression: &Expression, node: &Node, text: &str, offset: usize, at: At, wants: Wants) {
        self.expressions += 1;
        let source = &text[offset..offset + expression.source_bytes()];
        let base = locate(self.text, &node.span, text, offset);
        // Written without escapes and folding, it stands in the file as it is.
        let plain = self.text[base..].starts_with(source);
        let whole = offset == "${".len() && offset + source.len() + "}".len() == text.len();
        self.written.push(Written {
            source: source.into(),
            scalar: node.span.clone(),
            base,
            decoded: (!plain).then(|| (text.into(), offset)),
            at,
            locals: self.locals.as_slice().into(),
            wants: if wants == Wants::Value && !whole { Wants::Text } else { wants },
        });
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
        self.first_line(&(from..floor(self.text, to)))
    }
}

fn is_yaml_1_1_boolean(text: &str) -> bool {
    matches!(text, "yes" | "Yes" | "YES" | "no" | "No" | "NO" | "on" | "On" | "ON" | "off" | "Off" | "OFF")
}
