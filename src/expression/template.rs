//! JSON and text with expressions in them: what a file writes as `{amount: "${ $input.amount }"}` or
//! `/reservations/${ $forward.key }`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::json::{Kind, Value, write_text};
use super::scan::{self, Piece};
use super::{Allowed, CompileError, EvalError, Expression, OUTPUT_BYTES_MAX, Scope, too_large};
use crate::payload::Payload;

/// What may stand unescaped in a path segment or a query value (RFC 3986 section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Keys, headers and paths: what servers take at most.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A JSON value with expressions in it: `{amount: "${ $input.amount }", note: "for ${ $input.name }"}`.
#[derive(Debug)]
pub struct Template(Node);

#[derive(Debug)]
pub(super) enum Node {
    /// JSON text.
    Literal(Box<str>),
    /// With the place of its source in the string.
    Expression(Expression, usize),
    Text(TextTemplate),
    Array(Vec<Template>),
    Object(Vec<(String, Template)>),
}

impl Template {
    pub(super) fn node(&self) -> &Node {
        &self.0
    }

    /// Takes a value without expressions, as JSON text.
    #[must_use]
    pub fn literal(value: &Payload) -> Self {
        Self(Node::Literal(value.text().into()))
    }

    /// Compiles one string: a single expression keeps its type, text around it makes it text.
    ///
    /// # Errors
    /// As [`Expression::compile`]; the bytes are those of `text`.
    pub fn text<'a>(text: &str, allowed: impl Into<Allowed<'a>>) -> Result<Self, Vec<CompileError>> {
        let mut template = TextTemplate::compile(text, allowed)?;
        Ok(Self(match template.parts.as_slice() {
            [Part::Literal(text)] => {
                let mut out = String::new();
                write_text(text, &mut out);
                Node::Literal(out.into())
            }
            [Part::Expression(..)] => match template.parts.pop() {
                Some(Part::Expression(expression, start)) => Node::Expression(expression, start),
                Some(Part::Literal(_)) | None => Node::Literal("null".into()),
            },
            _ => Node::Text(template),
        }))
    }

    /// Returns, for a template made by [`Self::text`], each expression with its place in that text.
    #[must_use]
    pub fn expressions(&self) -> Vec<(usize, &Expression)> {
        match &self.0 {
            Node::Expression(expression, start) => vec![(*start, expression)],
            Node::Text(template) => template.expressions().collect(),
            Node::Literal(_) | Node::Array(_) | Node::Object(_) => Vec::new(),
        }
    }

    /// True for one expression that ends in `// null`: its author has provided for null.
    #[must_use]
    pub fn states_null(&self) -> bool {
        match &self.0 {
            Node::Literal(text) => &**text == "null",
            Node::Expression(expression, _) => expression.states_null(),
            Node::Text(_) | Node::Array(_) | Node::Object(_) => false,
        }
    }

    /// Makes an array of templates.
    #[must_use]
    pub fn array(items: Vec<Self>) -> Self {
        Self(Node::Array(items))
    }

    /// Makes an object of templates; the keys are literal.
    #[must_use]
    pub fn object(members: Vec<(String, Self)>) -> Self {
        Self(Node::Object(members))
    }

    /// Compiles every string in a JSON value.
    ///
    /// # Errors
    /// As [`Expression::compile`].
    pub fn from_json<'a>(
        value: &serde_json::Value,
        allowed: impl Into<Allowed<'a>>,
    ) -> Result<Self, Vec<CompileError>> {
        let allowed: Allowed<'_> = allowed.into();
        Ok(match value {
            serde_json::Value::String(text) => Self::text(text, allowed)?,
            serde_json::Value::Array(items) => {
                Self::array(items.iter().map(|item| Self::from_json(item, allowed)).collect::<Result<_, _>>()?)
            }
            serde_json::Value::Object(members) => {
                let member = |(key, value): (&String, _)| Ok((key.clone(), Self::from_json(value, allowed)?));
                Self::object(members.iter().map(member).collect::<Result<_, Vec<CompileError>>>()?)
            }
            other => Self::literal(&Payload::of(other)),
        })
    }

    /// Evaluates to one JSON value.
    ///
    /// # Errors
    /// As [`Expression::eval`].
    pub fn eval(&self, scope: &dyn Scope) -> Result<Payload, EvalError> {
        let mut out = String::new();
        self.write(scope, &mut out)?;
        Payload::parse(out).map_err(|error| EvalError { expression: "…".to_owned(), message: error.to_string() })
    }

    fn write(&self, scope: &dyn Scope, out: &mut String) -> Result<(), EvalError> {
        match &self.0 {
            Node::Literal(text) => out.push_str(text),
            Node::Expression(expression, _) => expression.write(scope, out)?,
            Node::Text(template) => write_text(&template.eval(scope, Place::Plain)?.unwrap_or_default(), out),
            Node::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(scope, out)?;
                }
                out.push(']');
            }
            Node::Object(members) => {
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_text(key, out);
                    out.push(':');
                    value.write(scope, out)?;
                }
                out.push('}');
            }
        }
        if out.len() > OUTPUT_BYTES_MAX {
            return Err(EvalError { expression: "…".to_owned(), message: too_large() });
        }
        Ok(())
    }

    /// Evaluates field by field: top-level members that fail are left out and named. A template that
    /// is no object and fails gives null under an empty name.
    pub fn eval_fields(&self, scope: &dyn Scope) -> (Payload, Vec<(String, EvalError)>) {
        let Node::Object(members) = &self.0 else {
            return match self.eval(scope) {
                Ok(payload) => (payload, Vec::new()),
                Err(error) => (Payload::null(), vec![(String::new(), error)]),
            };
        };
        let (mut out, mut failed) = (String::from("{"), Vec::new());
        for (key, value) in members {
            match value.eval(scope) {
                Ok(payload) => {
                    if out.len() > 1 {
                        out.push(',');
                    }
                    write_text(key, &mut out);
                    out.push(':');
                    out.push_str(payload.text());
                }
                Err(error) => failed.push((key.clone(), error)),
            }
        }
        out.push('}');
        match Payload::parse(out) {
            Ok(payload) => (payload, failed),
            Err(error) => {
                let error = EvalError { expression: "…".to_owned(), message: error.to_string() };
                (Payload::null(), vec![(String::new(), error)])
            }
        }
    }
}

/// Text with expressions in it, each encoded for its place. Null is an error unless written `// null`.
#[derive(Debug)]
pub struct TextTemplate {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    /// With the place of its source in the text.
    Expression(Expression, usize),
}

/// A piece of a path.
#[derive(Debug)]
pub enum PathPiece {
    /// As it is sent.
    Literal(String),
    /// Fills one segment, encoded.
    Parameter(TextTemplate),
}

/// The place that a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As it is: keys, locks, titles.
    Plain,
    /// The literal parts stay, each expression fills one path segment, or a query value behind `?`.
    Path,
    /// A query value.
    Query,
    /// A header's value: no CR, LF, NUL; what HTTP does not allow is an error.
    Header,
    /// A subject of NATS: the literal parts stay, each expression fills (part of) one token.
    Subject,
}

impl TextTemplate {
    /// Compiles a text.
    ///
    /// # Errors
    /// As [`Expression::compile`]; the bytes are those of `text`.
    pub fn compile<'a>(text: &str, allowed: impl Into<Allowed<'a>>) -> Result<Self, Vec<CompileError>> {
        let allowed: Allowed<'_> = allowed.into();
        let pieces = scan::pieces(text).map_err(|error| {
            vec![CompileError { code: error.code, span: error.start..error.end, message: error.message, help: None }]
        })?;
        let (mut parts, mut errors) = (Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Literal(text) => parts.push(Part::Literal(text)),
                Piece::Expression { start, end } => match Expression::compile(&text[start..end], allowed) {
                    Ok(expression) => parts.push(Part::Expression(expression, start)),
                    Err(found) => errors.extend(found.into_iter().map(|mut error| {
                        error.span = start + error.span.start..start + error.span.end;
                        error
                    })),
                },
            }
        }
        if errors.is_empty() { Ok(Self { parts }) } else { Err(errors) }
    }

    /// Joins the pieces of a path whose parameters are texts of their own.
    #[must_use]
    pub fn path(pieces: impl IntoIterator<Item = PathPiece>) -> Self {
        let mut parts = Vec::new();
        for piece in pieces {
            match piece {
                PathPiece::Literal(text) => parts.push(Part::Literal(text)),
                PathPiece::Parameter(template) => parts.extend(template.parts.into_iter().map(|part| match part {
                    Part::Literal(text) => Part::Literal(utf8_percent_encode(&text, ESCAPED).to_string()),
                    expression @ Part::Expression(..) => expression,
                })),
            }
        }
        Self { parts }
    }

    /// Returns the text if there is no expression in it.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns the literal text in front of the first expression.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            Some(Part::Expression(..)) | None => "",
        }
    }

    /// Evaluates to text; `None` where the whole template is one expression that gave an explicit
    /// `// null`.
    ///
    /// # Errors
    /// As [`Expression::eval`]; also a null, an array or an object inside text, or text over 64 KiB.
    pub fn eval(&self, scope: &dyn Scope, place: Place) -> Result<Option<String>, EvalError> {
        let whole = self.parts.len() == 1;
        let mut out = String::new();
        let mut in_query = place == Place::Query;
        for part in &self.parts {
            match part {
                Part::Literal(text) => {
                    in_query |= place == Place::Path && text.contains('?');
                    match place {
                        Place::Query => out.extend(utf8_percent_encode(text, ESCAPED)),
                        Place::Plain | Place::Path | Place::Header | Place::Subject => out.push_str(text),
                    }
                }
                Part::Expression(expression, _) => {
                    let null = expression.run(scope, |value| {
                        if value.kind() == Kind::Null && whole && expression.null_stated {
                            return Ok(true);
                        }
                        let text = scalar(value)?;
                        match place {
                            Place::Plain | Place::Header => out.push_str(text.as_ref()),
                            Place::Path if !in_query && text.is_empty() => {
                                return Err("it fills a part of a path and is empty".to_owned());
                            }
                            Place::Path | Place::Query => out.extend(utf8_percent_encode(&text, ESCAPED)),
                            Place::Subject => out.push_str(subject_token(&text)?),
                        }
                        Ok(false)
                    })?;
                    if null {
                        return Ok(None);
                    }
                }
            }
            if out.len() > TEXT_BYTES_MAX {
                return Err(self.error(format!("it yields more than {TEXT_BYTES_MAX} bytes of text")));
            }
        }
        match place {
            Place::Header => check_header(&out).map_err(|message| self.error(message))?,
            Place::Path => check_path(&out).map_err(|message| self.error(message))?,
            Place::Plain | Place::Query | Place::Subject => {}
        }
        Ok(Some(out))
    }

    fn error(&self, message: String) -> EvalError {
        let source = self.parts.iter().find_map(|part| match part {
            Part::Expression(expression, _) => Some(expression.source().to_owned()),
            Part::Literal(_) => None,
        });
        EvalError { expression: source.unwrap_or_default(), message }
    }

    /// Returns the text with a character in the place of each expression.
    #[must_use]
    pub fn pattern(&self, unknown: char) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Expression(..) => out.push(unknown),
            }
        }
        out
    }

    /// Returns the literal pieces with their place in the text, as nearly as `$${` allows.
    pub fn literals(&self) -> Vec<(usize, &str)> {
        let mut out = Vec::new();
        let mut at = 0;
        for part in &self.parts {
            match part {
                Part::Literal(text) => {
                    out.push((at, text.as_str()));
                    at += text.len();
                }
                Part::Expression(expression, start) => at = start + expression.source.len() + 1,
            }
        }
        out
    }

    /// Returns each expression with its place in the text.
    pub fn expressions(&self) -> impl Iterator<Item = (usize, &Expression)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(expression, start) => Some((*start, expression)),
            Part::Literal(_) => None,
        })
    }
}

fn scalar<'a>(value: &'a Value<'_>) -> Result<std::borrow::Cow<'a, str>, String> {
    use std::borrow::Cow;
    Ok(match value {
        Value::Text(text) => Cow::Borrowed(text),
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        Value::Int(number) => Cow::Owned(number.to_string()),
        Value::Raw(text) if value.kind() == Kind::Number => Cow::Borrowed(text),
        Value::Null => return Err("it is null; write `// \"…\"` for another text".to_owned()),
        Value::Raw(_) | Value::Array(_) | Value::Object(_) => {
            return Err(format!("it is {}, which cannot stand in text", value.kind().name()));
        }
    })
}

fn check_header(text: &str) -> Result<(), String> {
    // RFC 9110 section 5.5: visible ASCII, space and tab.
    match text.chars().find(|c| !matches!(c, ' '..='~' | '\t')) {
        Some(c) => Err(format!("a header's value cannot hold {}", c.escape_default())),
        None => Ok(()),
    }
}

/// A value of data names no other subject than the one that is written: it is one token, or a part of one.
fn subject_token(text: &str) -> Result<&str, String> {
    let stray =
        text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '/' | '=' | '+' | '@')));
    match stray {
        None if text.is_empty() => Err("it fills a token of a subject and is empty".to_owned()),
        None => Ok(text),
        Some(c) => Err(format!("it fills a token of a subject, which cannot hold `{}`", c.escape_debug())),
    }
}

fn check_path(target: &str) -> Result<(), String> {
    let path = target.split('?').next().unwrap_or_default();
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("a part of a path cannot be `.` or `..`".to_owned());
    }
    if path.starts_with("//") {
        return Err("a path cannot begin with `//`".to_owned());
    }
    Ok(())
}
