//! YAML with places: mappings, lists and scalars as text. What a scalar means is decided by who asks for
//! it, so there is no `yes` that becomes true and no `010` that becomes 8.

use std::borrow::Cow;
use std::sync::Arc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::diagnostic::{DUPLICATE_KEY, Diagnostic, SYNTAX};

/// The reference has three levels and a service four; more is no configuration.
const DEPTH_MAX: usize = 16;

/// One file's name and text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

/// Where something stands.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) source: Arc<Source>,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) width: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// `key:` with nothing behind it, `~` or `null`.
    Nothing,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// Reads a document. An empty one is none.
///
/// # Errors
/// The first syntax error, or every duplicate key.
pub(super) fn read(source: &Arc<Source>) -> Result<Option<Node>, Vec<Diagnostic>> {
    let mut reader = Reader { source, events: Parser::new_from_str(&source.text), findings: Vec::new() };
    let node = reader.document().map_err(|error| vec![*error])?;
    if reader.findings.is_empty() { Ok(node) } else { Err(reader.findings) }
}

type Refused = Box<Diagnostic>;

struct Reader<'a> {
    source: &'a Arc<Source>,
    events: Parser<'a, granit_parser::StrInput<'a>>,
    findings: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Option<Node>, Refused> {
        let mut found = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(found),
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if found.is_some() => {
                    return Err(self.refused(&span, "a second document", "keep one document per file"));
                }
                Event::DocumentStart(..) => {}
                event => {
                    let node = self.node(event, span, 0)?;
                    found = Some(node).filter(|node| !matches!(node.value, Value::Nothing));
                }
            }
        }
    }

    /// Returns the next event that is no comment.
    fn next(&mut self) -> Result<(Event<'a>, Span), Refused> {
        loop {
            match self.events.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => {
                    let place = self.place(*error.marker(), 1);
                    let help = "check the indentation, and quotes around values with `: ` or ` #` in them";
                    return Err(Box::new(Diagnostic::at(&place, SYNTAX, format!("no YAML: {}", error.info()), help)));
                }
                None => return Ok((Event::StreamEnd, Span::empty(Marker::new(0, 1, 0)))),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Refused> {
        if depth > DEPTH_MAX {
            return Err(self.refused(&span, &format!("nested deeper than {DEPTH_MAX}"), "flatten it"));
        }
        let place = self.spanned(&span);
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.plain(&span, anchor, tag.is_some())?;
                scalar(text, style)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.plain(&span, anchor, tag.is_some())?;
                self.list(depth)?
            }
            Event::MappingStart(_, anchor, tag) => {
                self.plain(&span, anchor, tag.is_some())?;
                Value::Map(self.map(depth)?)
            }
            _ => return Err(self.refused(&span, "an alias", "write the value out")),
        };
        Ok(Node { place, value })
    }

    fn plain(&self, span: &Span, anchor: usize, tagged: bool) -> Result<(), Refused> {
        if tagged {
            return Err(self.refused(span, "a tag", "leave the `!…` out"));
        }
        if anchor != 0 {
            return Err(self.refused(span, "an anchor", "leave the `&…` out and write the value where it is used"));
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Value, Refused> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Refused> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let place = self.spanned(&span);
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, _, anchor, tag) => {
                    self.plain(&span, anchor, tag.is_some())?;
                    text.into_owned()
                }
                _ => return Err(self.refused(&span, "a key that is no text", "write `key: value`")),
            };
            if key == "<<" {
                return Err(self.refused(&span, "a merge key", "write the values out"));
            }
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                self.findings.push(Diagnostic::at(
                    &place,
                    DUPLICATE_KEY,
                    format!("`{key}` is there twice"),
                    format!("the first is in line {}; keep one of them", first.place.line),
                ));
                continue;
            }
            entries.push(Entry { key, place, node });
        }
    }

    fn refused(&self, span: &Span, what: &str, help: &str) -> Refused {
        Box::new(Diagnostic::at(&self.spanned(span), SYNTAX, format!("{what} is not taken here"), help))
    }

    fn spanned(&self, span: &Span) -> Place {
        let width =
            if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
        self.place(span.start, width)
    }

    fn place(&self, start: Marker, width: usize) -> Place {
        Place { source: Arc::clone(self.source), line: start.line(), column: start.col() + 1, width: width.max(1) }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    match style {
        ScalarStyle::Plain if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") => Value::Nothing,
        _ => Value::Text(text.into_owned()),
    }
}
