//! What an expression may name, and what it did name.

use std::ops::Range;

use super::Variable;

/// A variable that an author can write, without what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    Input,
    Event,
    Result,
    /// `$step.key`
    Step,
    /// `$steps.ID.…`
    Steps,
    Forward,
    Error,
    Parked,
    Saga,
}

impl Root {
    /// Every variable, for tests.
    pub const ALL: &'static [Self] = &[
        Self::Input,
        Self::Event,
        Self::Result,
        Self::Step,
        Self::Steps,
        Self::Forward,
        Self::Error,
        Self::Parked,
        Self::Saga,
    ];

    /// Returns the variable as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "$input",
            Self::Event => "$event",
            Self::Result => "$result",
            Self::Step => "$step",
            Self::Steps => "$steps",
            Self::Forward => "$forward",
            Self::Error => "$error",
            Self::Parked => "$parked",
            Self::Saga => "$saga",
        }
    }

    /// Fields that follow the variable; empty where any do.
    pub(super) const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Input | Self::Event | Self::Result => &[],
            Self::Step => &["key"],
            Self::Steps => &["output", "status", "key", "error"],
            Self::Forward => &["input", "output", "status", "key"],
            Self::Error => &["type", "title", "detail", "step", "status", "result", "others"],
            Self::Parked => &["step", "direction", "reason"],
            Self::Saga => &["id", "name", "version", "correlation_id", "started_at"],
        }
    }
}

/// The variables that may be read at a place: those of the language, and those that the steps around it
/// bind (`each` of a `for`, `as` of a `catch`).
#[derive(Debug, Clone, Copy)]
pub struct Allowed<'a> {
    pub roots: &'a [Root],
    /// With the leading `$`; the last one of a name counts.
    pub locals: &'a [(String, Name)],
}

impl<'a> From<&'a [Root]> for Allowed<'a> {
    fn from(roots: &'a [Root]) -> Self {
        Self { roots, locals: &[] }
    }
}

impl<'a, const N: usize> From<&'a [Root; N]> for Allowed<'a> {
    fn from(roots: &'a [Root; N]) -> Self {
        Self { roots, locals: &[] }
    }
}

/// A variable that an expression names, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    Input,
    Event,
    Result,
    StepKey,
    StepOutput(Box<str>),
    StepStatus(Box<str>),
    StepKeyOf(Box<str>),
    StepError(Box<str>),
    ForwardInput,
    ForwardOutput,
    ForwardStatus,
    ForwardKey,
    Error,
    Parked,
    Saga,
    /// The item of the n-th `for` around the step, counted from 0 from outside.
    Item(u8),
    Index(u8),
}

impl Name {
    /// Returns what the scope is asked for.
    #[must_use]
    pub fn variable(&self) -> Variable<'_> {
        match self {
            Self::Input => Variable::Input,
            Self::Event => Variable::Event,
            Self::Result => Variable::Result,
            Self::StepKey => Variable::StepKey,
            Self::StepOutput(id) => Variable::StepOutput(id),
            Self::StepStatus(id) => Variable::StepStatus(id),
            Self::StepKeyOf(id) => Variable::StepKeyOf(id),
            Self::StepError(id) => Variable::StepError(id),
            Self::ForwardInput => Variable::ForwardInput,
            Self::ForwardOutput => Variable::ForwardOutput,
            Self::ForwardStatus => Variable::ForwardStatus,
            Self::ForwardKey => Variable::ForwardKey,
            Self::Error => Variable::Error,
            Self::Parked => Variable::Parked,
            Self::Saga => Variable::Saga,
            Self::Item(level) => Variable::Item(*level),
            Self::Index(level) => Variable::Index(*level),
        }
    }

    /// Returns the step whose result is read.
    #[must_use]
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::StepOutput(id) | Self::StepStatus(id) | Self::StepKeyOf(id) | Self::StepError(id) => Some(id),
            Self::Input
            | Self::Event
            | Self::Result
            | Self::StepKey
            | Self::ForwardInput
            | Self::ForwardOutput
            | Self::ForwardStatus
            | Self::ForwardKey
            | Self::Error
            | Self::Parked
            | Self::Saga
            | Self::Item(_)
            | Self::Index(_) => None,
        }
    }
}

/// One place where an expression reads a variable.
#[derive(Debug, Clone)]
pub struct Read {
    pub name: Name,
    /// Bytes of the expression's source, the variable with the keys that belong to it.
    pub span: Range<usize>,
    /// Stands left of `//`, under `?` or `try`, or inside an `if`: null is provided for.
    pub guarded: bool,
    /// Index into the names that the expression reads.
    pub(super) slot: usize,
    /// `{$input}`: the variable is its member's key as well.
    pub(super) shorthand: bool,
}

/// Why an expression does not compile, and where in its source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CompileError {
    /// `X001` …: see `docs/diagnostics.md`.
    pub code: &'static str,
    /// Bytes of the source.
    pub span: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}
