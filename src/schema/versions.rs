//! The versions of every type held against each other as its policy says. A step that is proven on examples
//! bridges what would be incompatible: old events reach new consumers through it.

use serde::Serialize;

use super::compat::{self, Direction, Report, Verdict};
use super::{Compatibility, Policy, Registry};
use crate::id::EventType;

/// Two versions of one type, held against each other.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// `order.placed`
    pub name: String,
    pub old: u32,
    pub new: u32,
    /// The file of the new version.
    pub file: String,
    #[serde(flatten)]
    pub report: Report,
    /// The upcaster or downcaster that leads where the schemas alone do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridged_by: Option<String>,
}

impl Comparison {
    /// True where events of the one reach consumers of the other.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.report.verdict == Verdict::Compatible || self.bridged_by.is_some()
    }
}

/// What was looked at, and what came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Checked {
    pub types: usize,
    pub versions: usize,
    pub comparisons: Vec<Comparison>,
}

impl Checked {
    /// Returns what does not hold.
    pub fn failures(&self) -> impl Iterator<Item = &Comparison> {
        self.comparisons.iter().filter(|comparison| !comparison.holds())
    }
}

/// Returns the directions that a policy asks for.
fn directions(policy: &Policy) -> &'static [Direction] {
    match policy.compatibility {
        Compatibility::Backward => &[Direction::Backward],
        Compatibility::Forward => &[Direction::Forward],
        Compatibility::Full => &[Direction::Backward, Direction::Forward],
        Compatibility::None => &[],
    }
}

/// Compares every version with the one before it, or with all before it.
#[must_use]
pub fn compare_versions(registry: &Registry) -> Checked {
    let mut checked = Checked { versions: registry.types().count(), ..Checked::default() };
    for name in registry.names() {
        checked.types += 1;
        let policy = registry.policy(name);
        let versions = registry.versions(name);
        for (at, new) in versions.iter().enumerate() {
            let first = if policy.transitive { 0 } else { at.saturating_sub(1) };
            for old in &versions[first..at] {
                for direction in directions(&policy) {
                    checked.comparisons.extend(compare(registry, name, (*old, *new), *direction, &policy));
                }
            }
        }
    }
    checked
}

fn compare(
    registry: &Registry,
    name: &str,
    (old, new): (u32, u32),
    direction: Direction,
    policy: &Policy,
) -> Option<Comparison> {
    let entry = |version| registry.of_version(name, version).and_then(|event_type| registry.get(event_type));
    let (old_entry, new_entry) = (entry(old)?, entry(new)?);
    let report = compat::check(&old_entry.source.to_value(), &new_entry.source.to_value(), direction, policy.profile);
    let bridged_by =
        (report.verdict != Verdict::Compatible).then(|| way(registry, name, (old, new), direction)).flatten();
    Some(Comparison { name: name.to_owned(), old, new, file: new_entry.path.clone(), report, bridged_by })
}

/// Returns the steps that lead from one version to another, if one of them is a file.
fn way(registry: &Registry, name: &str, (old, new): (u32, u32), direction: Direction) -> Option<String> {
    let pairs: Vec<(u32, u32)> = match direction {
        Direction::Backward => (old..new).map(|at| (at, at + 1)).collect(),
        Direction::Forward => (old..new).rev().map(|at| (at + 1, at)).collect(),
    };
    let policy = registry.policy(name);
    let mut files = Vec::new();
    for (from, to) in pairs {
        if let Some(step) = registry.step(name, from, to) {
            files.push(step.path.clone());
            continue;
        }
        // Versions between which nothing need be done.
        let source = |version| Some(registry.get(registry.of_version(name, version)?)?.source.to_value());
        let (low, high) = (from.min(to), from.max(to));
        let report = compat::check(&source(low)?, &source(high)?, direction, policy.profile);
        if report.verdict != Verdict::Compatible {
            return None;
        }
    }
    (!files.is_empty()).then(|| files.join(", "))
}

impl Registry {
    /// Compares every version here with the same version of another set, which was published before: a
    /// published version does not change. Versions that only one of them has are compared within their set.
    #[must_use]
    pub fn against(&self, published: &Self) -> Vec<Comparison> {
        let mut out = Vec::new();
        for event_type in self.types() {
            let (Some(now), Some(before)) = (self.get(event_type), published.get(event_type)) else { continue };
            let (now_schema, before_schema) = (now.source.to_value(), before.source.to_value());
            if now_schema == before_schema {
                continue;
            }
            let policy = self.policy(event_type.name());
            for direction in directions(&policy) {
                let report = compat::check(&before_schema, &now_schema, *direction, policy.profile);
                let version = event_type.version();
                out.push(Comparison {
                    name: event_type.name().to_owned(),
                    old: version,
                    new: version,
                    file: now.path.clone(),
                    report,
                    bridged_by: None,
                });
            }
        }
        out
    }

    /// Returns the versions of a published set that are not here any more.
    #[must_use]
    pub fn gone_since<'a>(&self, published: &'a Self) -> Vec<&'a EventType> {
        published.types().filter(|event_type| !self.knows(event_type)).collect()
    }
}
