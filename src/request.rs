//! A call to a service with every expression resolved, and what came of one attempt at it: the words
//! that the core and the connectors share.

use serde::{Deserialize, Serialize};

use crate::id::ServiceName;
use crate::payload::Payload;
use crate::problem::Problem;
use crate::time::Span;

/// A resolved call, as the intent fact stores it. Holds no secret: those are the service's, added by
/// the connector when the call leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub service: ServiceName,
    /// `GET`, `POST`, …
    pub method: String,
    /// Path and query, percent-encoded, appended to the service's url: `/charges?reference=A-1`.
    pub target: String,
    /// Names in lower case; values without CR, LF and NUL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Sent as `application/json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Payload>,
    /// An answer to the same key that is young enough may stand in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheUse>,
}

/// `cache: {key, ttl}`, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheUse {
    pub key: String,
    pub ttl: Span,
}

/// What a call is for: the `Saga-Direction` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Forward,
    Compensate,
    Check,
}

impl Direction {
    /// Returns the word used in headers, keys and spans.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Compensate => "compensate",
            Self::Check => "check",
        }
    }
}

/// What an attempt did to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Done,
    /// Definitely nothing.
    None,
    Maybe,
}

impl Effect {
    /// Returns the word used in figures and spans.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::None => "none",
            Self::Maybe => "maybe",
        }
    }
}

/// Whether another attempt makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    Yes,
    No,
}

/// A service's answer. `$result` in expressions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case; a repeated header's values are joined with `, `.
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, String>,
    /// JSON; a body of another content type is a JSON string, an empty one null.
    pub body: Payload,
}

/// How one attempt ended, by the connector's defaults (LANGUAGE "Outcome of a call"); a step's
/// `classify` may say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub effect: Effect,
    pub again: Again,
    /// None when nothing readable came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Set unless the effect is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// From `Retry-After` on 425, 429 and 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Span>,
}
