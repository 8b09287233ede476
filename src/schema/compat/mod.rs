//! Whether two versions of a schema get along: does the reader accept every document of the writer? Answers
//! compatible, incompatible (with the rule, both places, and where possible a document that proves it) or
//! cannot tell. Thinks of schemas as sets of documents; the profiles differ in what is taken to be written.

mod clause;
mod document;
mod gap;
mod include;
mod lists;
mod members;
mod normal;
mod number;
mod pattern;
mod report;
mod same;
mod scalars;
mod split;
#[cfg(test)]
mod tests;
mod value;
mod witness;

use serde::Serialize;
use serde_json::Value;

use clause::{Kind, Term, Terms};
use document::Documents;
use gap::{Gap, Outcome, Proof};
use include::Checker;

pub use report::{Difference, Direction, Report, Side, Verdict};

/// What a document may hold beyond what its schema names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// A name that a schema does not declare is not written by those who follow it: a new optional property is
    /// compatible.
    #[default]
    Lenient,
    /// What is not forbidden may be there; and what is described in another form is another thing.
    Strict,
}

/// Says whether the new version gets along with the old one in a direction.
#[must_use]
pub fn check(old: &Value, new: &Value, direction: Direction, profile: Profile) -> Report {
    let (writer, reader) = match direction {
        Direction::Backward => (old, new),
        Direction::Forward => (new, old),
    };
    let (docs, from, to) = Documents::new(writer, reader);
    let mut checker = Checker::new(docs, profile);
    let (from, to): (Terms, Terms) = (vec![Term::Is(from)], vec![Term::Is(to)]);
    let outcome = match (profile == Profile::Strict).then(|| nothing_written(&mut checker, &from, &to)).flatten() {
        Some(outcome) => outcome,
        None => checker.within(&from, &to),
    };
    if outcome.is_yes() {
        return Report { verdict: Verdict::Compatible, direction, differences: Vec::new(), example: None };
    }
    let mut paths: Vec<&str> = outcome.gaps.iter().map(|gap| gap.path.as_str()).collect();
    paths.push("");
    paths.dedup();
    let example = witness::find(&mut checker, [writer, reader], (&from, &to), &paths);
    let of_profile = outcome.gaps.iter().any(|gap| gap.of_profile);
    let verdict = if example.is_some() || of_profile || outcome.proof == Proof::No {
        Verdict::Incompatible
    } else {
        Verdict::CannotTell
    };
    let differences = outcome.gaps.iter().map(|gap| report::difference(gap, direction)).collect();
    Report { verdict, direction, differences, example }
}

/// A schema that nothing fits has no documents to go by: the strict profile asks for the same form.
fn nothing_written(checker: &mut Checker<'_>, from: &Terms, to: &Terms) -> Option<Outcome> {
    if !Kind::ALL.iter().all(|kind| checker.living(*kind, from).is_empty()) {
        return None;
    }
    let [Term::Is(writer), Term::Is(reader)] = [&from[0], &to[0]] else { return None };
    let form = |id| match checker.docs().schema(id) {
        Value::Object(members) => members.keys().next().map(String::as_str),
        _ => None,
    };
    if checker.docs().schema(*writer).is_boolean() == checker.docs().schema(*reader).is_boolean()
        && form(*writer) == form(*reader)
    {
        return None;
    }
    let (writer, reader) = checker.places(from, to);
    let message = "nothing fits it, so there are no documents to go by, and it is written in another form";
    let gap = Gap {
        rule: "nothing_written",
        path: String::new(),
        writer,
        reader,
        message: message.to_owned(),
        of_profile: true,
    };
    Some(Outcome::of(Proof::No, gap))
}
