//! RFC 9457 problem details: what failed, in the words that a run, an answer and `$error` share.

use serde::{Deserialize, Serialize};

use crate::payload::Payload;

/// Failure types of ours; a `fail` step and a participant's `application/problem+json` bring their own.
pub mod kind {
    pub const REFUSED: &str = "refused";
    pub const UNKNOWN: &str = "unknown";
    pub const TIMEOUT: &str = "timeout";
    pub const CANCELLED: &str = "cancelled";
    pub const INVALID_OUTPUT: &str = "invalid_output";
    pub const EXPRESSION: &str = "expression";
    /// Those that this program gives; every other is a participant's or a file's.
    pub const OURS: [&str; 6] = [REFUSED, UNKNOWN, TIMEOUT, CANCELLED, INVALID_OUTPUT, EXPRESSION];
}

/// One failure. `$error` in expressions, `error` in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// One of [`kind`], what `fail` says, or the participant's problem type.
    #[serde(rename = "type")]
    pub kind: String,
    /// One line for people.
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The path of the step that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The answer's status, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The answer as `$result` shows it, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Payload>,
}

impl Problem {
    /// Makes a problem of a type with a title.
    #[must_use]
    pub fn new(kind: &str, title: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), title: title.into(), detail: None, step: None, status: None, result: None }
    }

    /// Adds a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Names the step.
    #[must_use]
    pub fn at(mut self, step: &str) -> Self {
        self.step = Some(step.to_owned());
        self
    }
}
