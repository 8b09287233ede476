//! What travels in requests and answers beside the views of runs: shared by the routes and by clients.
//! A contract: members are added, never changed.

use serde::{Deserialize, Serialize};

use crate::events::audit::Entry;
use crate::events::filter::LetterFilter;
use crate::id::RunId;
use crate::payload::Payload;

/// One violation of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// A JSON pointer into what was sent (RFC 6901); empty for the whole of it.
    pub pointer: String,
    pub detail: String,
}

/// An RFC 9457 problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemDetails {
    #[serde(rename = "type", default)]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// What exactly, and what to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// On 422: every violation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Violation>,
    /// In a batch: the event that is meant, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// On 409 of a start: the run that has the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

/// What `POST /api/v1/sagas/{name}/runs` takes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartBody {
    #[serde(default)]
    pub input: Payload,
    /// One run per saga and key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// None: the run's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// None: the newest loaded version, or what a rollout says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// What `POST /webhooks/{name}` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WebhookAccepted {
    /// Over all attempts of the delivery the same.
    pub id: String,
    /// Empty where no trigger's `when` holds.
    pub runs: Vec<WebhookRun>,
}

/// What a delivery started, or an earlier attempt of it had.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WebhookRun {
    pub saga: String,
    pub id: RunId,
    pub created: bool,
}

/// What `POST /api/v1/sagas/{name}/rollout` takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutBody {
    pub version: u32,
    /// Of a hundred starts that name no version, so many take it: 0 to 100.
    pub percent: u8,
    /// Who does it; kept in the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What `POST /api/v1/runs/{id}/migrate` and `POST /api/v1/sagas/{name}/migrate` take.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrateBody {
    pub to: u32,
    /// Only says what would be.
    #[serde(default)]
    pub check: bool,
    /// The undos of steps that a run has met may be other ones.
    #[serde(default)]
    pub new_undo: bool,
    /// Who does it; kept in the run's history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// For all runs of a saga: where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What `POST /api/v1/locks/release` takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockBody {
    pub name: String,
    /// Who does it; kept in the run's history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What a start answers that does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedBody {
    pub id: RunId,
}

/// What publishing answers, per event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub id: String,
    /// Place in the EVENTS stream.
    pub sequence: u64,
    /// The bus had it already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// Attributes of an event beside its type and data: the query of `POST /api/v1/events/{type}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventOptions {
    /// The partition key: events with the same key keep their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// None: a new UUID. The same id again (with the same source) is the same event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A URI reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// The body of an operator's command; every member is optional and belongs to one command.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperateBody {
    /// `cancel`: why, for the run's history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `retry`: under a new idempotency key; refused while the old outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_key: Option<bool>,
    /// `resolve`, required: true, it did happen; false, it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<bool>,
    /// `resolve` with `done: true`: what the step gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Payload>,
    /// `answer`, required: the path of the step that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// `answer`, required: who answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// `answer`, required: what the step's `form` asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Payload>,
}

/// What `POST /api/v1/dead-letters/{sequence}/redrive` takes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedriveBody {
    /// Other data in place of the event's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Payload>,
    /// Who does it, for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What a command takes that needs nothing else.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What a command on every dead letter that fits takes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SomeLettersBody {
    #[serde(default)]
    pub filter: LetterFilter,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What was done by operators, oldest first, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    pub entries: Vec<Entry>,
    pub next: u64,
}
