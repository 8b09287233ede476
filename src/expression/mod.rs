//! `${ … }`: jq behind a fence. Simple forms run on our own small evaluator, the rest on jaq under a
//! budget. No clock, no randomness, no environment; nothing here can take the process down.

use crate::payload::Payload;

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
    _source: Box<str>,
}

/// Why an evaluation gave no value: one line, with the expression's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{expression}`: {message}")]
pub struct EvalError {
    pub expression: String,
    pub message: String,
}

impl Expression {
    /// Evaluates to one JSON value.
    ///
    /// # Errors
    /// [`EvalError`] for no or several values, a jq error, or an exhausted budget.
    pub fn eval(&self, _scope: &dyn Scope) -> Result<Payload, EvalError> {
        todo!()
    }

    /// Evaluates to a boolean; null or a number is an error.
    ///
    /// # Errors
    /// As [`Self::eval`].
    pub fn eval_bool(&self, _scope: &dyn Scope) -> Result<bool, EvalError> {
        todo!()
    }
}

/// A JSON value with expressions in it: `{amount: "${ $input.amount }", note: "for ${ $input.name }"}`.
#[derive(Debug)]
pub struct Template {
    _private: (),
}

impl Template {
    /// Evaluates to one JSON value.
    ///
    /// # Errors
    /// As [`Expression::eval`].
    pub fn eval(&self, _scope: &dyn Scope) -> Result<Payload, EvalError> {
        todo!()
    }
}

impl Template {
    /// Evaluates field by field: top-level members that fail are left out and named.
    pub fn eval_fields(&self, _scope: &dyn Scope) -> (Payload, Vec<(String, EvalError)>) {
        todo!()
    }
}

/// Text with expressions in it, each encoded for its place. Null is an error unless written `// null`.
#[derive(Debug)]
pub struct TextTemplate {
    _private: (),
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
}

impl TextTemplate {
    /// Evaluates to text; `None` where the whole template is one expression that gave an explicit
    /// `// null`.
    ///
    /// # Errors
    /// As [`Expression::eval`]; also a null, an array or an object inside text, or text over 64 KiB.
    pub fn eval(&self, _scope: &dyn Scope, _place: Place) -> Result<Option<String>, EvalError> {
        todo!()
    }
}
