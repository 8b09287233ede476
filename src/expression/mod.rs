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
