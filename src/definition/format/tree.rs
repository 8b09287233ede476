//! YAML with everything that an author can see: styles, anchors, comments. The tree that the reader works on
//! forgets these.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::super::locate::floor;
use super::super::yaml::DEPTH_MAX;

pub(super) struct Tree {
    pub root: Node,
    /// In the order of the text.
    pub comments: Vec<Comment>,
}

pub(super) struct Comment {
    pub at: usize,
    /// With its `#`, without white space behind.
    pub text: String,
    /// Nothing but white space stands before it on its line.
    pub alone: bool,
}

pub(super) struct Node {
    /// Bytes of the file, without the anchor.
    pub span: Range<usize>,
    pub anchor: Option<String>,
    pub value: Value,
}

pub(super) enum Value {
    /// As it stands in the file: plain, quoted, an alias, or nothing.
    Raw,
    /// `|` or `>`
    Block,
    Sequence {
        items: Vec<Node>,
        flow: bool,
    },
    Mapping {
        entries: Vec<(Node, Node)>,
        flow: bool,
    },
}

impl Node {
    /// True for a collection that stands on lines of its own.
    pub(super) fn is_block(&self) -> bool {
        matches!(&self.value, Value::Sequence { flow: false, .. } | Value::Mapping { flow: false, .. })
    }
}

/// A place and what is wrong there.
type Refused = (Range<usize>, String);

/// Reads a text that has been read as a saga file before.
pub(super) fn read(text: &str) -> Result<Tree, Refused> {
    let mut options = granit_parser::options! {
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
        emit_anchor_events: true,
    };
    options.set_emit_comments(true);
    let mut reading = Reading { text, open: Vec::new(), root: None, comments: Vec::new(), anchor: None };
    // The anchor's name comes behind its node: one event is held back.
    let mut held: Option<(Event<'_>, Range<usize>)> = None;
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let at = floor(text, error.marker().byte_offset().unwrap_or(0));
            (at..at, format!("this is not YAML: {}", error.info()))
        })?;
        let span = range(text, &span);
        match event {
            Event::Anchor(_, name) => reading.anchor = Some(name.into_owned()),
            event => {
                if let Some((event, span)) = held.replace((event, span)) {
                    reading.take(event, span);
                }
            }
        }
    }
    if let Some((event, span)) = held {
        reading.take(event, span);
    }
    reading.comments.sort_by_key(|comment| comment.at);
    match reading.root {
        Some(root) => Ok(Tree { root, comments: reading.comments }),
        None => Err((0..0, "the file is empty".to_owned())),
    }
}

fn range(text: &str, span: &Span) -> Range<usize> {
    let start = span.start.byte_offset().unwrap_or(0).min(text.len());
    let end = span.end.byte_offset().unwrap_or(start).clamp(start, text.len());
    floor(text, start)..floor(text, end)
}

enum Open {
    Sequence { start: usize, anchor: Option<String>, flow: bool, items: Vec<Node> },
    Mapping { start: usize, anchor: Option<String>, flow: bool, entries: Vec<(Node, Node)>, key: Option<Node> },
}

struct Reading<'s> {
    text: &'s str,
    open: Vec<Open>,
    root: Option<Node>,
    comments: Vec<Comment>,
    anchor: Option<String>,
}

impl<'s> Reading<'s> {
    fn take(&mut self, event: Event<'s>, span: Range<usize>) {
        match event {
            Event::Comment(..) => {
                let line = self.text[..span.start].rfind('\n').map_or(0, |at| at + 1);
                let alone = self.text[line..span.start].trim().is_empty();
                let text = self.text[span.clone()].trim_end().to_owned();
                self.comments.push(Comment { at: span.start, text, alone });
            }
            Event::Scalar(_, style, ..) => {
                let value = match style {
                    ScalarStyle::Literal | ScalarStyle::Folded => Value::Block,
                    _ => Value::Raw,
                };
                let anchor = self.anchor.take();
                let start = match value {
                    Value::Block => indicator(self.text, span.start),
                    _ => span.start,
                };
                self.node(Node { span: start..span.end, anchor, value });
            }
            Event::Alias(_) => self.node(Node { span, anchor: None, value: Value::Raw }),
            Event::SequenceStart(..) => {
                let flow = self.text[span.start..].starts_with('[');
                let anchor = self.anchor.take();
                self.open.push(Open::Sequence { start: span.start, anchor, flow, items: Vec::new() });
            }
            Event::MappingStart(..) => {
                let flow = self.text[span.start..].starts_with('{');
                let anchor = self.anchor.take();
                self.open.push(Open::Mapping { start: span.start, anchor, flow, entries: Vec::new(), key: None });
            }
            Event::SequenceEnd => {
                if let Some(Open::Sequence { start, anchor, flow, items }) = self.open.pop() {
                    let last = items.last().map(|item| item.span.end);
                    let span = start..if flow { span.end } else { last.unwrap_or(start) };
                    self.node(Node { span, anchor, value: Value::Sequence { items, flow } });
                }
            }
            Event::MappingEnd => {
                if let Some(Open::Mapping { start, anchor, flow, entries, .. }) = self.open.pop() {
                    let last = entries.last().map(|(_, value)| value.span.end);
                    let span = start..if flow { span.end } else { last.unwrap_or(start) };
                    self.node(Node { span, anchor, value: Value::Mapping { entries, flow } });
                }
            }
            _ => {}
        }
    }

    fn node(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence { items, .. }) => items.push(node),
            Some(Open::Mapping { entries, key, .. }) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
        }
    }
}

/// Returns where the `|` or `>` stands to which a block of text belongs: on the last line before the text that
/// is not empty.
fn indicator(text: &str, content: usize) -> usize {
    let line_start = text[..content].rfind('\n').map_or(0, |at| at + 1);
    let above = text[..line_start].trim_end();
    let start = above.rfind('\n').map_or(0, |at| at + 1);
    let is_header = |rest: &str| {
        let rest = rest[1..].trim_start_matches(['+', '-']).trim_start_matches(|c: char| c.is_ascii_digit());
        let rest = rest.trim_start_matches(['+', '-']);
        rest.is_empty()
            || rest.trim_start().is_empty()
            || (rest.starts_with([' ', '\t']) && rest.trim_start().starts_with('#'))
    };
    let line = &above[start..];
    line.char_indices()
        .find(|(at, c)| matches!(c, '|' | '>') && is_header(&line[*at..]))
        .map_or(content, |(at, _)| start + at)
}
