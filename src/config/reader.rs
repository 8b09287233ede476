//! Typed values out of the merged tree; every mistake is noted, none stops the reading.

use std::path::{Component, Path, PathBuf};

use super::diagnostic::{Diagnostic, ENVIRONMENT, SECRET, SECRET_PLACE, SHAPE, UNKNOWN_KEY, VALUE};
use super::outside::Outside;
use super::yaml::{Entry, Node, Value};
use crate::secret::Secret;
use crate::time::Span;

pub(super) struct Reader<'a> {
    outside: &'a dyn Outside,
    tree: Node,
    pub(super) secrets: PathBuf,
    pub(super) findings: Vec<Diagnostic>,
}

/// Where `${secret:…}` may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Allowed,
    Refused,
}

/// Sections whose names are the author's.
const FREE: [&str; 4] = ["services", "subscriptions", "outboxes", "webhooks"];

impl<'a> Reader<'a> {
    /// Lays a file over the reference.
    pub(super) fn new(outside: &'a dyn Outside, reference: Node, file: Option<Node>) -> Self {
        let mut reader = Self { outside, tree: reference, secrets: PathBuf::new(), findings: Vec::new() };
        if let Some(file) = file {
            let mut tree = reader.tree.clone();
            let all = paths(&tree);
            reader.lay_over(&mut tree, file, "", &all);
            reader.tree = tree;
        }
        reader
    }

    /// The reference knows every key, but the names of services and the like.
    fn lay_over(&mut self, base: &mut Node, over: Node, path: &str, all: &[String]) {
        match (&mut base.value, over.value) {
            (Value::Map(base), Value::Map(entries)) if !FREE.contains(&path) => {
                for entry in entries {
                    let path = joined(path, &entry.key);
                    match base.iter_mut().find(|known| known.key == entry.key) {
                        Some(known) => {
                            known.place = entry.place;
                            self.lay_over(&mut known.node, entry.node, &path, all);
                        }
                        None => {
                            let known: Vec<&str> = base.iter().map(|known| known.key.as_str()).collect();
                            self.unknown(&entry, &path, &known, all);
                        }
                    }
                }
            }
            // A section of which everything is commented out.
            (Value::Map(_), Value::Nothing) => {}
            (Value::Map(_), Value::Text(_) | Value::List(_)) if !FREE.contains(&path) => {
                let help = "write its keys in lines of their own below it";
                self.note(&over.place, SHAPE, format!("`{path}` must be a mapping"), help);
            }
            (_, value) => *base = Node { place: over.place, value },
        }
    }

    /// Notes a key that nobody reads.
    pub(super) fn unknown(&mut self, entry: &Entry, path: &str, known: &[&str], all: &[String]) {
        let elsewhere = all.iter().find(|other| other.rsplit('.').next() == Some(&entry.key));
        let help = match (close(&entry.key, known), elsewhere) {
            (Some(word), _) => format!("did you mean `{word}`?"),
            (None, Some(path)) => format!("did you mean `{path}`?"),
            (None, None) => format!("known here are {}", known.join(", ")),
        };
        self.note(&entry.place, UNKNOWN_KEY, format!("nobody reads `{path}`"), help);
    }

    pub(super) fn note(
        &mut self,
        place: &super::yaml::Place,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.findings.push(Diagnostic::at(place, code, message, help));
    }

    /// Returns the node of a path. The reference has them all; below a section that was refused for its
    /// shape, the nearest there is.
    pub(super) fn node(&self, path: &str) -> Node {
        let mut node = &self.tree;
        for key in path.split('.') {
            let Value::Map(entries) = &node.value else { break };
            match entries.iter().find(|entry| entry.key == key) {
                Some(entry) => node = &entry.node,
                None => break,
            }
        }
        node.clone()
    }

    pub(super) fn text(&mut self, path: &str) -> String {
        let node = self.node(path);
        self.text_of(&node, path).unwrap_or_default()
    }

    pub(super) fn span(&mut self, path: &str) -> Span {
        let node = self.node(path);
        self.span_of(&node, path).unwrap_or_default()
    }

    pub(super) fn number(&mut self, path: &str, min: u64, max: u64) -> u64 {
        let node = self.node(path);
        self.number_of(&node, path, min, max).unwrap_or(min)
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&mut self, path: &str, words: &[(&str, T)]) -> T {
        let node = self.node(path);
        self.word_of(&node, path, words).unwrap_or(words[0].1)
    }

    /// A value that a type's own parser takes.
    pub(super) fn parsed<T>(&mut self, path: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let node = self.node(path);
        self.parsed_of(&node, path, parse)
    }

    /// An empty text is none.
    pub(super) fn secret(&mut self, path: &str) -> Option<Secret<String>> {
        let node = self.node(path);
        self.secret_of(&node, path).filter(|secret| !secret.expose().is_empty())
    }

    pub(super) fn text_of(&mut self, node: &Node, path: &str) -> Option<String> {
        self.resolved(node, path, Secrets::Refused)
    }

    pub(super) fn secret_of(&mut self, node: &Node, path: &str) -> Option<Secret<String>> {
        self.resolved(node, path, Secrets::Allowed).map(Secret::new)
    }

    pub(super) fn parsed_of<T>(
        &mut self,
        node: &Node,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text_of(node, path)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(help) => {
                self.note(&node.place, VALUE, format!("`{path}` cannot be `{text}`"), help);
                None
            }
        }
    }

    /// Reads a list of words: `[a, b]`, or text with white space between them.
    pub(super) fn words_of(
        &mut self,
        node: &Node,
        path: &str,
        parse: fn(&str) -> bool,
        help: &str,
    ) -> Option<Vec<String>> {
        let texts = match &node.value {
            Value::List(items) => items.iter().map(|item| self.text_of(item, path)).collect::<Option<Vec<_>>>()?,
            _ => self.text_of(node, path)?.split_whitespace().map(str::to_owned).collect(),
        };
        if let Some(wrong) = texts.iter().find(|text| !parse(text)) {
            self.note(&node.place, VALUE, format!("`{path}` cannot hold `{wrong}`"), help);
            return None;
        }
        Some(texts)
    }

    pub(super) fn span_of(&mut self, node: &Node, path: &str) -> Option<Span> {
        self.parsed_of(node, path, |text| {
            let help = "write a duration with its unit: 200ms, 3s, 2m, 24h, 7d or PT1H30M, at most ten years";
            Span::parse(text).map_err(|_| help.to_owned())
        })
    }

    pub(super) fn number_of(&mut self, node: &Node, path: &str, min: u64, max: u64) -> Option<u64> {
        self.parsed_of(node, path, |text| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse::<u64>().ok().filter(|number| digits && (min..=max).contains(number));
            number.ok_or_else(|| format!("write a whole number from {min} to {max}, digits only"))
        })
    }

    pub(super) fn word_of<T: Copy>(&mut self, node: &Node, path: &str, words: &[(&str, T)]) -> Option<T> {
        self.parsed_of(node, path, |text| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| match close(text, &known) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("write one of {}", known.join(", ")),
            })
        })
    }

    /// Returns a mapping's entries; notes anything else. Nothing is an empty mapping.
    pub(super) fn map_of(&mut self, node: &Node, path: &str) -> Vec<Entry> {
        match &node.value {
            Value::Map(entries) => entries.clone(),
            Value::Nothing => Vec::new(),
            Value::Text(_) | Value::List(_) => {
                self.note(
                    &node.place,
                    SHAPE,
                    format!("`{path}` must be a mapping"),
                    "write `key: value` lines below it",
                );
                Vec::new()
            }
        }
    }

    fn resolved(&mut self, node: &Node, path: &str, secrets: Secrets) -> Option<String> {
        match &node.value {
            Value::Text(text) => self.interpolated(node, path, text, secrets),
            Value::Nothing => {
                let help = "write a value, `\"\"` for an empty one, or remove the line for the default";
                self.note(&node.place, SHAPE, format!("`{path}` has no value"), help);
                None
            }
            Value::List(_) | Value::Map(_) => {
                self.note(&node.place, SHAPE, format!("`{path}` must be one value"), "write `key: value` in one line");
                None
            }
        }
    }

    /// Puts `${env:…}` and `${secret:…}` in; `$${` is a literal `${`.
    fn interpolated(&mut self, node: &Node, path: &str, text: &str, secrets: Secrets) -> Option<String> {
        let (mut whole, mut rest) = (String::new(), text);
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                whole.push_str(&rest[..at - 1]);
                whole.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            whole.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}').map(|end| at + end) else {
                self.note(&node.place, VALUE, format!("`{path}` has `${{` without `}}`"), "close it, or write `$${`");
                return None;
            };
            let expression = &rest[at + 2..end];
            whole.push_str(&match expression.split_once(':') {
                Some(("env", name)) => self.variable(node, name)?,
                Some(("secret", name)) => self.secret_value(node, path, name, secrets)?,
                _ => {
                    let message = format!("`${{{expression}}}` is not known in a configuration");
                    self.note(
                        &node.place,
                        VALUE,
                        message,
                        "write `${env:NAME}`, `${env:NAME:-default}` or `${secret:PATH}`",
                    );
                    return None;
                }
            });
            rest = &rest[end + 1..];
        }
        whole.push_str(rest);
        Some(whole)
    }

    fn variable(&mut self, node: &Node, expression: &str) -> Option<String> {
        let (name, default) = match expression.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (expression, None),
        };
        // As in a shell: `:-` also stands in for a variable that is set to nothing.
        let value = self.outside.variable(name).filter(|value| default.is_none() || !value.is_empty());
        let value = value.or_else(|| default.map(str::to_owned));
        if value.is_none() {
            let help = format!("set it, or write `${{env:{name}:-default}}`");
            self.note(&node.place, ENVIRONMENT, format!("the environment variable {name} is not set"), help);
        }
        value
    }

    fn secret_value(&mut self, node: &Node, path: &str, name: &str, secrets: Secrets) -> Option<String> {
        if secrets == Secrets::Refused {
            let help = "secrets may stand in `api.token`, a service's `auth`, a subscription's `secret`, an outbox's `url`; for the rest use `${env:NAME}`";
            self.note(&node.place, SECRET_PLACE, format!("`{path}` is shown in logs and must not hold a secret"), help);
            return None;
        }
        let file = Path::new(name);
        if name.is_empty() || !file.components().all(|part| matches!(part, Component::Normal(_))) {
            let help = "write a path below `secrets.directory`, such as `${secret:pay/token}`";
            self.note(&node.place, SECRET, format!("`{name}` is no name of a secret"), help);
            return None;
        }
        let variable = format!(
            "BACKSTITCH_SECRET_{}",
            name.chars()
                .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
                .collect::<String>()
        );
        if let Some(value) = self.outside.variable(&variable) {
            return Some(value);
        }
        let file = self.secrets.join(file);
        match self.outside.file(&file) {
            Ok(text) => {
                let text = text.strip_suffix('\n').unwrap_or(&text);
                Some(text.strip_suffix('\r').unwrap_or(text).to_owned())
            }
            Err(error) => {
                let help = format!("put it into {} or the environment variable {variable}", file.display());
                self.note(&node.place, SECRET, format!("the secret `{name}` cannot be read: {error}"), help);
                None
            }
        }
    }
}

/// Takes the services out: those of the reference belong to the repository's sagas, not to everybody's.
pub(super) fn without_services(reference: &mut Node) {
    if let Value::Map(entries) = &mut reference.value {
        for entry in entries.iter_mut().filter(|entry| entry.key == "services") {
            entry.node.value = Value::Map(Vec::new());
        }
    }
}

/// Returns the known word that was most likely meant.
pub(super) fn close<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let best = known.iter().map(|other| (strsim::damerau_levenshtein(word, other), *other)).min()?;
    // One slip in three letters is a slip; more is another word.
    (best.0 <= word.chars().count().div_ceil(3)).then_some(best.1)
}

pub(super) fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Returns the path of every key.
pub(super) fn paths(tree: &Node) -> Vec<String> {
    fn walk(node: &Node, path: &str, found: &mut Vec<String>) {
        if let Value::Map(entries) = &node.value {
            for entry in entries {
                let path = joined(path, &entry.key);
                walk(&entry.node, &path, found);
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(tree, "", &mut found);
    found
}
