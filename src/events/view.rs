//! What the API and the command line show. A contract: members are added, never changed.

use serde::{Deserialize, Serialize};

use crate::bus::dead_letter::Letter;
use crate::bus::wire;
use crate::envelope::base64;
use crate::payload::Payload;

/// A dead letter in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterView {
    /// Its place in DEAD_LETTERS: what `show`, `redrive` and `drop` take.
    pub sequence: u64,
    pub reason: String,
    /// For people: what is wrong.
    pub detail: String,
    /// JSON pointers into the data.
    pub pointers: Vec<String>,
    /// Who could not take it.
    pub consumer: String,
    /// Where the original was published.
    pub subject: String,
    /// The place of the original.
    pub stream: String,
    pub stream_sequence: u64,
    pub attempts: u64,
    /// RFC 3339.
    pub first_at: String,
    pub last_at: String,
    pub put_aside_at: String,
    /// The event's id and source, where they can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The partition key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Of the payload.
    pub bytes: usize,
    /// False where the original headers could not be read.
    pub readable: bool,
    /// In `show` only: the original headers, and the payload as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Original>,
}

/// The original message, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    pub headers: Vec<(String, String)>,
    /// Set when it is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Payload>,
    /// Set when it is UTF-8 and no JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Set when it is neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// Letters, oldest first, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterPage {
    pub letters: Vec<LetterView>,
    /// What to give as `cursor` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What became of letters that were redriven or dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub done: Vec<u64>,
    /// Those that it could not be done to, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Left>,
    /// More fit than were looked at: repeat it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A letter that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    pub sequence: u64,
    pub reason: String,
}

impl LetterView {
    pub(super) fn of(letter: &Letter) -> Self {
        let header = |wanted: &str| {
            let found = letter.raw.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.and_then(|(_, value)| crate::envelope::binary::decode(value))
        };
        let event = wire::decode(&letter.raw).ok();
        Self {
            sequence: letter.sequence,
            reason: letter.reason.clone(),
            detail: letter.detail.clone(),
            pointers: letter.pointers.clone(),
            consumer: letter.consumer.clone(),
            subject: letter.raw.subject.clone(),
            stream: letter.stream.clone(),
            stream_sequence: letter.stream_sequence,
            attempts: letter.attempts,
            first_at: letter.first_at.to_string(),
            last_at: letter.last_at.to_string(),
            put_aside_at: letter.put_aside_at.to_string(),
            id: event.as_ref().map(|event| event.id.clone()).or_else(|| header("ce-id")),
            source: event.as_ref().map(|event| event.source.clone()).or_else(|| header("ce-source")),
            key: letter.key.clone().or_else(|| event.as_ref().and_then(|event| event.partition_key.clone())),
            correlation_id: event.and_then(|event| event.correlation_id).or_else(|| header("ce-correlationid")),
            bytes: letter.raw.payload.len(),
            readable: letter.readable,
            original: None,
        }
    }

    pub(super) fn whole(letter: &Letter) -> Self {
        let payload = &letter.raw.payload;
        let text = std::str::from_utf8(payload).ok();
        let json = text.and_then(|text| Payload::parse(text).ok());
        let original = Original {
            headers: letter.raw.headers.clone(),
            text: text.filter(|_| json.is_none()).map(str::to_owned),
            base64: text.is_none().then(|| base64::encode(payload)),
            json,
        };
        Self { original: Some(original), ..Self::of(letter) }
    }
}
