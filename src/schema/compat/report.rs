//! The answer as people and programs see it: old and new beside each other, and what to do.

use serde::Serialize;
use serde_json::Value;

use super::gap::{Gap, Place};

/// The three answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Compatible,
    /// Neither a proof nor a document against it was found.
    CannotTell,
    Incompatible,
}

impl Verdict {
    /// Returns the word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compatible => "compatible",
            Self::CannotTell => "cannot_tell",
            Self::Incompatible => "incompatible",
        }
    }
}

/// Who reads whose documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The new version reads the old one's documents.
    Backward,
    /// The old version reads the new one's documents.
    Forward,
}

impl Direction {
    /// Returns the word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backward => "backward",
            Self::Forward => "forward",
        }
    }
}

/// A place in one of the two schemas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// JSON pointer; both are empty where nothing is written.
    pub pointer: String,
    /// What stands there, on one line.
    pub text: String,
}

/// One reason against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `docs/schemas.md` lists them.
    pub rule: &'static str,
    /// JSON pointer into the data, `*` for any item or member.
    pub path: String,
    pub old: Side,
    pub new: Side,
    pub message: String,
    /// What to do.
    pub help: String,
}

/// What was found in one direction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub verdict: Verdict,
    pub direction: Direction,
    pub differences: Vec<Difference>,
    /// A document that the writer's version accepts and the reader's refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
}

fn side(place: &Place) -> Side {
    Side { pointer: place.pointer.clone(), text: place.text.clone() }
}

pub(super) fn difference(gap: &Gap, direction: Direction) -> Difference {
    let (old, new) = match direction {
        Direction::Backward => (side(&gap.writer), side(&gap.reader)),
        Direction::Forward => (side(&gap.reader), side(&gap.writer)),
    };
    Difference {
        rule: gap.rule,
        path: gap.path.clone(),
        old,
        new,
        message: gap.message.clone(),
        help: help(gap.rule, direction).to_owned(),
    }
}

/// Says what to do about a rule. Backward, the new version asks too much; forward, it allows too much.
fn help(rule: &str, direction: Direction) -> &'static str {
    match (rule, direction) {
        ("not_compared" | "too_much_to_compare", _) => {
            "write it in simpler words, or decide yourself: `compatibility: none` in policy.yaml for this type"
        }
        ("no_alternative" | "branches_overlap", Direction::Backward) => {
            "keep every old alternative, told apart by a required property with a `const`; or add an upcaster"
        }
        ("nothing_written", _) => "give the old version a schema that its documents fit",
        ("property_required" | "dependent_property_required", Direction::Backward) => {
            "make it optional; or add an upcaster that fills it in"
        }
        ("property_required" | "dependent_property_required", Direction::Forward) => {
            "keep it required; or add a downcaster that fills it in"
        }
        ("property_added_to_open_content", _) => {
            "say `additionalProperties: false` from the first version on, choose the lenient profile, or add an upcaster"
        }
        ("property_refused" | "additional_properties_refused", Direction::Backward) => {
            "go on allowing it (`additionalProperties`); or add an upcaster that takes it out"
        }
        ("property_refused" | "additional_properties_refused", Direction::Forward) => {
            "old consumers refuse what they do not know: leave `additionalProperties` open there, or add a downcaster"
        }
        (_, Direction::Backward) => "allow what the old version allowed; or add an upcaster (vN.from-vM.jq)",
        (_, Direction::Forward) => "allow no more than the old version did; or add a downcaster (vM.from-vN.jq)",
    }
}
