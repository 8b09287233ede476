//! `${ … }`: jq behind a fence. Simple forms run on our own small evaluator, the rest on jaq under a
//! budget. No clock, no randomness, no environment; nothing here can take the process down.

mod counted;
#[cfg(test)]
mod differential;
mod fence;
mod functions;
pub mod infer;
mod jq;
mod json;
mod names;
mod program;
mod raw;
mod scan;
mod template;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::OnceLock;

use crate::payload::Payload;

pub use fence::{TERM_DEPTH_MAX, TOKENS_MAX};
pub use names::{Allowed, CompileError, Name, Read, Root};
pub use scan::{BRACKETS_MAX, SOURCE_BYTES_MAX};
pub use template::{PathPiece, Place, Template, TextTemplate};

use json::Value;
use program::Stop;

/// Text of one result. An event or a request body above it would be refused by the bus anyway.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What an expression may name. Names of steps are resolved when the file loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variable<'a> {
    /// `$input`
    Input,
    /// `$event`: the whole CloudEvent
    Event,
    /// `$result`
    Result,
    /// `$step.key`
    StepKey,
    /// `$steps.ID.output`
    StepOutput(&'a str),
    /// `$steps.ID.status`
    StepStatus(&'a str),
    /// `$steps.ID.key`
    StepKeyOf(&'a str),
    /// `$steps.ID.error`
    StepError(&'a str),
    /// `$forward.input`: the resolved request's body
    ForwardInput,
    /// `$forward.output`
    ForwardOutput,
    /// `$forward.status`
    ForwardStatus,
    /// `$forward.key`
    ForwardKey,
    /// `$error`
    Error,
    /// `$parked`
    Parked,
    /// `$saga`
    Saga,
    /// `$item` of the n-th `for` around the step, counted from 0 from outside.
    Item(u8),
    /// `$index`, from 0.
    Index(u8),
}

/// A variable's value.
#[derive(Debug, Clone)]
pub enum Bound<'a> {
    Null,
    /// A document held elsewhere.
    Json(&'a Payload),
    /// A document made for the occasion.
    Owned(Payload),
    /// A JSON string.
    Text(std::borrow::Cow<'a, str>),
}

/// What an expression is evaluated against.
pub trait Scope {
    /// Returns a variable's value. Asked only for what the expression names.
    fn get(&self, variable: Variable<'_>) -> Bound<'_>;
}

/// One compiled `${ … }`: yields exactly one JSON value.
#[derive(Debug)]
pub struct Expression {
    source: Box<str>,
    names: Vec<Name>,
    reads: Vec<Read>,
    /// Ends in `// null`: the author has thought of null.
    null_stated: bool,
    small: Option<program::Program>,
    /// Compiled at load where there is no small program, else when it is first needed.
    jq: OnceLock<Result<jq::Program, String>>,
}

/// Why an evaluation gave no value: one line, with the expression's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{expression}`: {message}")]
pub struct EvalError {
    pub expression: String,
    pub message: String,
}

impl Expression {
    /// Compiles the source between `${` and `}`; `allowed` are the variables of its place.
    ///
    /// # Errors
    /// Every finding, each with its bytes in the source.
    pub fn compile<'a>(source: &str, allowed: impl Into<Allowed<'a>>) -> Result<Self, Vec<CompileError>> {
        use jaq_core::load::parse::{BinaryOp, Term};
        let fenced = fence::fence(source, allowed.into())?;
        let null_stated = matches!(&fenced.term,
            Term::BinOp(_, BinaryOp::Alt, right) if matches!(&**right, Term::Call("null", args) if args.is_empty()));
        let small = program::Program::compile(source, &fenced);
        let compiled = Self {
            source: source.into(),
            null_stated,
            small,
            names: fenced.names,
            reads: fenced.reads,
            jq: OnceLock::new(),
        };
        if compiled.small.is_none()
            && let Err(message) = compiled.jq()
        {
            let span = 0..source.len();
            return Err(vec![CompileError { code: "X001", span, message: message.to_owned(), help: None }]);
        }
        Ok(compiled)
    }

    /// Returns what the expression reads, in order of appearance.
    #[must_use]
    pub fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// Returns the length of all that stands between `${` and `}`.
    #[must_use]
    pub fn source_bytes(&self) -> usize {
        self.source.len()
    }

    /// True where the expression ends in `// null`: its author has provided for null.
    #[must_use]
    pub fn states_null(&self) -> bool {
        self.null_stated
    }

    /// Returns the source, without `${` and `}`.
    #[must_use]
    pub fn source(&self) -> &str {
        self.source.trim()
    }

    fn jq(&self) -> Result<&jq::Program, &str> {
        self.jq
            .get_or_init(|| jq::Program::compile(&self.source, &self.reads, self.names.len()))
            .as_ref()
            .map_err(String::as_str)
    }

    /// Runs the expression and hands its value to `take`.
    fn run<T>(&self, scope: &dyn Scope, take: impl FnOnce(&Value<'_>) -> Result<T, String>) -> Result<T, EvalError> {
        let bound: smallvec::SmallVec<[Bound<'_>; 4]> =
            self.names.iter().map(|name| scope.get(name.variable())).collect();
        let variables: smallvec::SmallVec<[Value<'_>; 4]> = bound.iter().map(value_of).collect();
        let value = match self.small.as_ref().map(|small| small.run(&variables)) {
            Some(Ok(value)) => return take(&value).map_err(|message| self.error(message)),
            Some(Err(Stop::Exhausted)) => Err("the expression takes too much work".to_owned()),
            Some(Err(Stop::Unsure)) | None => self.jq().map_err(str::to_owned).and_then(|jq| jq.run(&variables)),
        };
        let text = value.map_err(|message| self.error(message))?;
        take(&Value::of(&text)).map_err(|message| self.error(message))
    }

    fn error(&self, message: impl Into<String>) -> EvalError {
        let source: Vec<&str> = self.source.split_whitespace().collect();
        EvalError { expression: shortened(&source.join(" ")), message: shortened(&message.into()) }
    }

    /// Evaluates to one JSON value.
    ///
    /// # Errors
    /// [`EvalError`] for no or several values, a jq error, or an exhausted budget.
    pub fn eval(&self, scope: &dyn Scope) -> Result<Payload, EvalError> {
        let mut text = String::new();
        self.write(scope, &mut text)?;
        self.payload(text)
    }

    fn payload(&self, text: String) -> Result<Payload, EvalError> {
        Payload::parse(text).map_err(|error| self.error(format!("it yields what is not JSON: {error}")))
    }

    /// Appends the value as JSON.
    fn write(&self, scope: &dyn Scope, out: &mut String) -> Result<(), EvalError> {
        self.run(scope, |value| if value.write(out, OUTPUT_BYTES_MAX) { Ok(()) } else { Err(too_large()) })
    }

    /// Evaluates to a boolean; null or a number is an error.
    ///
    /// # Errors
    /// As [`Self::eval`].
    pub fn eval_bool(&self, scope: &dyn Scope) -> Result<bool, EvalError> {
        self.run(scope, |value| match value {
            Value::Bool(bool) => Ok(*bool),
            other => Err(format!("it must yield true or false, not {}", other.kind().name())),
        })
    }
}

/// Returns text as one line of a message; data of the run may be in it.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 300; // a line of a log that a person still reads
    let mut out: String = text.chars().take(CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

fn value_of<'a>(bound: &'a Bound<'_>) -> Value<'a> {
    match bound {
        Bound::Null => Value::Null,
        Bound::Json(payload) => Value::of(payload.text()),
        Bound::Owned(payload) => Value::of(payload.text()),
        Bound::Text(text) => Value::Text(std::borrow::Cow::Borrowed(text)),
    }
}

/// Returns the names of the functions that expressions have.
pub fn functions() -> impl Iterator<Item = &'static str> {
    functions::FUNCTIONS.iter().map(|(name, _)| *name)
}

fn too_large() -> String {
    format!("it yields more than {OUTPUT_BYTES_MAX} bytes")
}

/// Returns the known word that is nearest to what was written, if one is near enough to be meant.
#[must_use]
pub fn suggest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A long hostile word is no typing mistake, and the distance costs the product of the lengths.
    if written.len() > 100 {
        return None;
    }
    let allowed = (written.chars().count() / 3).clamp(1, 4);
    let distance = |word: &'a str| (strsim::damerau_levenshtein(written, word), word);
    known
        .into_iter()
        .filter(|word| *word != written)
        .map(distance)
        .min()
        .filter(|(far, _)| *far <= allowed)
        .map(|(_, word)| word)
}
