//! YAML with places. Everything that reads a saga file's text is here, so that the parser can be
//! replaced in one place. What YAML allows and a saga file does not is refused: tags, merge keys,
//! several documents, keys that are no text, a key twice, numbers that YAML 1.1 and 1.2 read differently.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnostic::{DIAGNOSTICS_MAX, Finding};
use super::locate::floor;

/// A saga file is read by people; at 1 MiB it is something else.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// A switch in a switch with a body in a body has some twenty levels.
pub const DEPTH_MAX: usize = 64;
/// Nodes of a document, those that aliases repeat included. A file of 500 steps has about 15,000.
pub const NODES_MAX: usize = 200_000;

/// Values that aliases repeat: a block of headers in each of some hundred steps.
pub const REPEATED_MAX: usize = 5_000;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Bytes of the file.
    pub span: Range<usize>,
    pub value: Yaml,
}

#[derive(Debug, Clone)]
pub(super) enum Yaml {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub text: String,
    /// Written without quotes and not as a block: may mean a number, a boolean or null.
    pub plain: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    pub key_span: Range<usize>,
    pub value: Node,
}

/// What a plain scalar means in YAML's core schema, as far as JSON has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning<'a> {
    Null,
    Bool(bool),
    /// A JSON number, as it is written.
    Number(&'a str),
    Text(&'a str),
}

impl Scalar {
    pub(super) fn meaning(&self) -> Meaning<'_> {
        if !self.plain {
            return Meaning::Text(&self.text);
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
            "true" | "True" | "TRUE" => Meaning::Bool(true),
            "false" | "False" | "FALSE" => Meaning::Bool(false),
            text if is_json_number(text) => Meaning::Number(text),
            text => Meaning::Text(text),
        }
    }
}

impl Node {
    /// Returns what the node is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Yaml::Sequence(_) => "a list",
            Yaml::Mapping(_) => "a mapping",
            Yaml::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => "nothing",
                Meaning::Bool(_) => "a boolean",
                Meaning::Number(_) => "a number",
                Meaning::Text(_) => "text",
            },
        }
    }
}

fn is_json_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<serde_json::Number>(text).is_ok()
}

/// Reads a file's text into a tree. The tree is none where the text is no YAML at all; findings may
/// come with a tree.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<Finding>) {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("a saga file has at most {FILE_BYTES_MAX} bytes; this one has {}", text.len());
        return (None, vec![Finding::new("S003", 0..0, message)]);
    }
    if let Some(at) = text.find('\0') {
        return (None, vec![Finding::new("S001", at..at + 1, "a saga file is text; here is a zero byte")]);
    }
    let mut options = granit_parser::options! {
        disallow_directives: true,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder {
        text,
        stack: Vec::new(),
        root: None,
        anchors: BTreeMap::new(),
        findings: Vec::new(),
        nodes: 0,
        repeated: 0,
    };
    let mut documents = 0;
    for event in parser {
        match event {
            Ok((Event::DocumentStart(..), span)) => {
                documents += 1;
                if documents > 1 {
                    let at = range(text, &span);
                    builder.find(
                        "S002",
                        at,
                        "a saga file holds one document",
                        Some("put the second saga into a file of its own"),
                    );
                    break;
                }
            }
            Ok((event, span)) => {
                if !builder.event(event, &span) {
                    return (None, builder.findings);
                }
            }
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or(0).min(text.len());
                let end = at + text[floor(text, at)..].chars().next().map_or(0, char::len_utf8);
                builder.find(
                    "S001",
                    floor(text, at)..end.min(text.len()),
                    &format!("this is not YAML: {}", error.info()),
                    None,
                );
                return (None, builder.findings);
            }
        }
    }
    (builder.root, builder.findings)
}

fn range(text: &str, span: &Span) -> Range<usize> {
    let start = span.start.byte_offset().unwrap_or(0).min(text.len());
    let end = span.end.byte_offset().unwrap_or(start).clamp(start, text.len());
    floor(text, start)..floor(text, end)
}

/// A container that is not closed yet.
enum Open {
    Sequence { span: Range<usize>, anchor: usize, items: Vec<Node> },
    Mapping { span: Range<usize>, anchor: usize, entries: Vec<Entry>, key: Option<Key>, seen: BTreeMap<String, usize> },
}

enum Key {
    Text(String, Range<usize>),
    /// Not usable; reported already. Its value is dropped.
    Bad,
}

struct Builder<'s> {
    text: &'s str,
    stack: Vec<Open>,
    root: Option<Node>,
    /// Finished nodes with an anchor.
    anchors: BTreeMap<usize, Node>,
    findings: Vec<Finding>,
    nodes: usize,
    /// Of these, how many aliases have repeated.
    repeated: usize,
}

impl<'s> Builder<'s> {
    fn find(&mut self, code: &'static str, span: Range<usize>, message: &str, help: Option<&str>) {
        let mut finding = Finding::new(code, span, message);
        finding.help = help.map(str::to_owned);
        self.findings.push(finding);
    }

    /// Takes one event; false where reading on makes no sense.
    fn event(&mut self, event: Event<'s>, at: &Span) -> bool {
        let span = range(self.text, at);
        if event.tag().is_some() {
            let tag = at.tag_span().map_or(span.clone(), |tag| range(self.text, &tag));
            self.find("S002", tag, "tags are not allowed in a saga file", Some("write the value without it"));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => return self.scalar(text, style, anchor, span),
            Event::SequenceStart(_, anchor, _) => self.stack.push(Open::Sequence { span, anchor, items: Vec::new() }),
            Event::MappingStart(_, anchor, _) => {
                self.stack.push(Open::Mapping { span, anchor, entries: Vec::new(), key: None, seen: BTreeMap::new() });
            }
            Event::SequenceEnd => {
                if let Some(Open::Sequence { span: start, anchor, items }) = self.stack.pop() {
                    let span = start.start..self.end(span.end, start.end, items.last().map(|item| item.span.end));
                    return self.node(Node { span, value: Yaml::Sequence(items) }, anchor);
                }
            }
            Event::MappingEnd => {
                if let Some(Open::Mapping { span: start, anchor, entries, .. }) = self.stack.pop() {
                    let last = entries.last().map(|entry| entry.value.span.end.max(entry.key_span.end));
                    let span = start.start..self.end(span.end, start.end, last);
                    return self.node(Node { span, value: Yaml::Mapping(entries) }, anchor);
                }
            }
            Event::Alias(id) => match self.anchors.get(&id) {
                Some(node) => {
                    // Counted before it is copied: a bomb costs no more than what it may repeat.
                    self.repeated += count(node);
                    if self.repeated > REPEATED_MAX || depth(node) + self.stack.len() > DEPTH_MAX {
                        let message = format!(
                            "aliases repeat at most {REPEATED_MAX} values of a saga file, in {DEPTH_MAX} levels"
                        );
                        self.find("S003", span, &message, Some("write out what is meant"));
                        return false;
                    }
                    // What is wrong inside is reported where it is written; the alias itself, here.
                    let mut node = node.clone();
                    node.span = span;
                    self.nodes += count(&node);
                    return self.node(node, 0);
                }
                None => {
                    self.find("S002", span, "this alias stands inside what it refers to", Some("write the value out"));
                    return false;
                }
            },
            _ => {}
        }
        if self.stack.len() > DEPTH_MAX {
            let span = range(self.text, at);
            self.find("S003", span, &format!("a saga file nests at most {DEPTH_MAX} levels"), None);
            return false;
        }
        true
    }

    /// A flow collection ends at its bracket, a block collection with its last child.
    fn end(&self, end: usize, start: usize, last_child: Option<usize>) -> usize {
        let bracket = end > 0 && matches!(self.text.as_bytes().get(end - 1), Some(b']' | b'}'));
        if bracket { end } else { last_child.unwrap_or(start).max(start) }
    }

    fn scalar(&mut self, text: Cow<'s, str>, style: ScalarStyle, anchor: usize, span: Range<usize>) -> bool {
        let plain = style == ScalarStyle::Plain;
        let is_key = matches!(self.stack.last(), Some(Open::Mapping { key: None, .. }));
        if plain
            && !is_key
            && let Some(help) = ambiguous(&text)
        {
            self.find(
                "S005",
                span.clone(),
                &format!("`{text}` means different things to different readers of YAML"),
                Some(&help),
            );
        }
        self.node(Node { span, value: Yaml::Scalar(Scalar { text: text.into_owned(), plain }) }, anchor)
    }

    /// Puts a finished node where it belongs; false over the budget.
    fn node(&mut self, node: Node, anchor: usize) -> bool {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let message = format!(
                "a saga file has at most {NODES_MAX} values in {DEPTH_MAX} levels, what aliases repeat included"
            );
            self.find("S003", node.span, &message, None);
            return false;
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence { items, .. }) => items.push(node),
            Some(Open::Mapping { entries, key, seen, .. }) => match key.take() {
                Some(Key::Text(name, key_span)) => entries.push(Entry { key: name, key_span, value: node }),
                Some(Key::Bad) => {}
                None => {
                    let (found, next) = match node.value {
                        Yaml::Scalar(Scalar { text, .. }) if text == "<<" => (
                            Some((
                                "S002",
                                "merge keys are not allowed in a saga file".to_owned(),
                                "write the keys out, or use `defaults`".to_owned(),
                            )),
                            Key::Bad,
                        ),
                        Yaml::Scalar(Scalar { text, .. }) => match seen.get(&text) {
                            Some(first) => {
                                // Counting lines costs what the text costs; no reader sees more than these.
                                let counts = self.findings.len() < DIAGNOSTICS_MAX;
                                let line = 1 + if counts { self.text[..*first].matches('\n').count() } else { 0 };
                                let message = format!("the key `{text}` stands here twice");
                                (
                                    Some((
                                        "S004",
                                        message,
                                        format!("it is first written in line {line}; keep one of them"),
                                    )),
                                    Key::Bad,
                                )
                            }
                            None => {
                                seen.insert(text.clone(), node.span.start);
                                (None, Key::Text(text, node.span.clone()))
                            }
                        },
                        Yaml::Sequence(_) | Yaml::Mapping(_) => (
                            Some((
                                "S002",
                                "a key is text".to_owned(),
                                "quote it if it begins with a bracket".to_owned(),
                            )),
                            Key::Bad,
                        ),
                    };
                    *key = Some(next);
                    if let Some((code, message, help)) = found {
                        self.find(code, node.span, &message, Some(&help));
                    }
                }
            },
        }
        true
    }
}

/// Counts what an alias repeats.
fn count(node: &Node) -> usize {
    match &node.value {
        Yaml::Scalar(_) => 1,
        Yaml::Sequence(items) => 1 + items.iter().map(count).sum::<usize>(),
        Yaml::Mapping(entries) => 1 + entries.iter().map(|entry| 1 + count(&entry.value)).sum::<usize>(),
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Yaml::Scalar(_) => 0,
        Yaml::Sequence(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Yaml::Mapping(entries) => 1 + entries.iter().map(|entry| depth(&entry.value)).max().unwrap_or(0),
    }
}

/// Says what to write instead of a plain scalar that looks like a number and is none in JSON.
fn ambiguous(text: &str) -> Option<String> {
    let digits = text.trim_start_matches(['-', '+']);
    if digits.len() + 1 < text.len() || is_json_number(text) {
        return None;
    }
    let number_like = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'e' | b'E'))
        && digits.matches('.').count() <= 1;
    let based = ["0o", "0x", "0b"].iter().any(|base| {
        digits
            .strip_prefix(base)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_'))
    });
    let special = matches!(digits.to_ascii_lowercase().as_str(), ".inf" | ".nan");
    let fraction =
        digits.strip_prefix('.').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    (number_like || based || special || fraction)
        .then(|| format!("quote it for text (\"{text}\"), or write a number as JSON does"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_scalar_means() {
        let rows: &[(&str, &str)] = &[
            ("no", "Text(\"no\")"),
            ("yes", "Text(\"yes\")"),
            ("true", "Bool(true)"),
            ("~", "Null"),
            ("\"~\"", "Text(\"~\")"),
            ("12", "Number(\"12\")"),
            ("1.50", "Number(\"1.50\")"),
            ("-3e4", "Number(\"-3e4\")"),
            ("2020-01-01", "Text(\"2020-01-01\")"),
            ("1.2.3", "Text(\"1.2.3\")"),
            ("12:30", "Text(\"12:30\")"),
        ];
        for (text, expected) in rows {
            let (node, findings) = parse(text);
            let Some(Node { value: Yaml::Scalar(scalar), .. }) = node else { panic!("{text}") };
            assert_eq!(format!("{:?}", scalar.meaning()), *expected, "{text}");
            assert!(findings.is_empty(), "{text}: {findings:?}");
        }
        for text in ["012", "1_000", "0x1F", "0o17", ".inf", "-.Inf", ".NaN", "+12", ".5", "1.", "1e"] {
            assert_eq!(parse(text).1.first().map(|found| found.code), Some("S005"), "{text}");
        }
    }

    #[test]
    fn hostile_documents() {
        let deep = "[".repeat(100);
        let wide = format!("[{}]", "1,".repeat(NODES_MAX));
        let bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
        let long = " ".repeat(FILE_BYTES_MAX + 1);
        let rows: &[(&str, &str, &str)] = &[
            ("depth", &deep, "S001"),
            ("width", &wide, "S003"),
            ("aliases", bomb, "S003"),
            ("length", &long, "S003"),
            ("zero byte", "a\0b", "S001"),
            ("tag", "a: !!binary x", "S002"),
            ("merge", "a: &a {b: 1}\nc:\n  <<: *a\n", "S002"),
            ("two documents", "a: 1\n---\nb: 1\n", "S002"),
            ("two keys", "a: 1\na: 2\n", "S004"),
            ("no key", "? [a]\n: 1\n", "S002"),
            ("itself", "a: &a [*a]\n", "S002"),
            ("unknown alias", "a: *b\n", "S001"),
            ("directive", "%YAML 1.1\n---\na: 1\n", "S001"),
            ("tab", "a:\n\t- b\n", "S001"),
        ];
        for (why, text, code) in rows {
            let found = parse(text).1;
            assert_eq!(found.first().map(|found| found.code), Some(*code), "{why}: {found:?}");
        }
    }
}
