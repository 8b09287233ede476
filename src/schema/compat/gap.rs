//! What keeps one schema's documents out of the other: the rule, the place in the data and both places in
//! the schemas. Proofs add up: one gap that is certain settles it.

use serde_json::Value;

use super::clause::{At, Term};
use super::document::{Documents, Id, Origin};
use super::normal::term_at;

/// How sure an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    /// Every document of the one fits the other.
    Yes,
    /// Neither was shown.
    Unsure,
    No,
}

/// A place in a schema with what stands there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub pointer: String,
    pub text: String,
}

/// One reason why documents of the writer are refused by the reader, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub rule: &'static str,
    /// JSON pointer into the data, `*` for any item or member.
    pub path: String,
    pub writer: Place,
    pub reader: Place,
    pub message: String,
    /// The strict profile's own rule, whatever documents there are.
    pub of_profile: bool,
}

/// An answer with its reasons.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub proof: Proof,
    pub gaps: Vec<Gap>,
}

/// Reasons that are told; a schema with more has been rewritten.
pub(super) const GAPS_MAX: usize = 100;

impl Outcome {
    pub(super) fn yes() -> Self {
        Self { proof: Proof::Yes, gaps: Vec::new() }
    }

    pub(super) fn of(proof: Proof, gap: Gap) -> Self {
        Self { proof, gaps: vec![gap] }
    }

    pub(super) fn is_yes(&self) -> bool {
        self.proof == Proof::Yes
    }

    /// Adds what has to hold as well.
    pub(super) fn and(&mut self, other: Self) {
        self.proof = self.proof.max(other.proof);
        for gap in other.gaps {
            if self.gaps.len() < GAPS_MAX && !self.gaps.contains(&gap) {
                self.gaps.push(gap);
            }
        }
    }

    /// Says that it was found out below a member or an item.
    pub(super) fn below(mut self, part: &str) -> Self {
        for gap in &mut self.gaps {
            gap.path.insert_str(0, part);
        }
        self
    }

    /// Takes the certainty away.
    pub(super) fn unsure(mut self) -> Self {
        if !self.gaps.iter().any(|gap| gap.of_profile) {
            self.proof = self.proof.min(Proof::Unsure);
        }
        self
    }
}

const TEXT_CHARS_MAX: usize = 100; // a line beside another

/// Text that ends where it is full.
struct Line {
    text: Vec<u8>,
}

impl std::io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // A character has at most four bytes.
        if self.text.len() > 4 * TEXT_CHARS_MAX {
            return Err(std::io::Error::other("the line is full"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns JSON on one short line.
pub(super) fn short(value: &Value) -> String {
    let mut line = Line { text: Vec::new() };
    let whole = serde_json::to_writer(&mut line, value).is_ok();
    let text = String::from_utf8_lossy(&line.text);
    if whole && text.chars().count() <= TEXT_CHARS_MAX {
        return text.into_owned();
    }
    text.chars().take(TEXT_CHARS_MAX).chain(std::iter::once('…')).collect()
}

impl Documents<'_> {
    /// Returns the place of a keyword; of the schema itself where it has none.
    pub(super) fn place(&self, at: At) -> Place {
        match self.schema(at.id).get(at.keyword) {
            Some(value) => Place { pointer: format!("{}/{}", self.pointer(at.id), at.keyword), text: short(value) },
            None => self.place_of(at.id),
        }
    }

    pub(super) fn place_of(&self, id: Id) -> Place {
        Place { pointer: self.pointer(id), text: short(self.schema(id)) }
    }

    /// Returns the place of a condition, or nothing for one that is written nowhere.
    pub(super) fn place_of_terms(&self, terms: &[Term], origin: Origin) -> Place {
        let id = terms.iter().filter_map(term_at).find(|id| self.origin(*id) == origin);
        id.map_or_else(Place::default, |id| self.place_of(id))
    }
}
