//! Sagas that `run` each other: each must be there, none may lead back to itself, and one with a pivot makes a
//! pivot of the step that runs it.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::load::told;
use crate::definition::{self, Action, Child, Compensate, Outline, SagaDefinition, Step, at_step};

/// No such saga.
pub const UNKNOWN_SAGA: &str = "F005";
/// A saga that runs itself, or too deep.
pub const CIRCLE: &str = "F006";
/// A child with a pivot in a step that is none.
pub const CHILD_PIVOT: &str = "F007";

/// Runs inside each other; a deeper one is a circle that nobody meant.
const DEPTH_MAX: usize = 16;

/// Looks up what each `run` names, in every file that was loaded.
pub fn check(definitions: &[SagaDefinition], findings: &mut Vec<Finding>) {
    let mut sagas: BTreeMap<&str, BTreeMap<u32, &SagaDefinition>> = BTreeMap::new();
    for definition in definitions {
        sagas.entry(definition.name.as_str()).or_default().insert(definition.version, definition);
    }
    let sagas = Sagas(sagas);
    for definition in definitions {
        for step in &definition.steps {
            if let Action::Run(child) = &step.action {
                findings.extend(sagas.forward(definition, step, child));
            }
            if let Compensate::Run(undo) = &step.compensate {
                findings.extend(sagas.known(definition, step, "compensate", &undo.child).err().map(|finding| *finding));
            }
        }
    }
}

/// Writes behind each file which of its steps are pivots because the sagas that they run have one.
pub fn resolve_pivots(texts: &mut [(String, String)]) {
    let outlines: Vec<Option<Outline>> = texts.iter().map(|(_, text)| definition::outline(text)).collect();
    let mut pivots: BTreeMap<(&str, u32), bool> =
        outlines.iter().flatten().map(|one| ((one.saga.as_str(), one.version), one.has_pivot)).collect();
    let has_one = |pivots: &BTreeMap<(&str, u32), bool>, saga: &str, version: Option<u32>| match version {
        Some(version) => pivots.get(&(saga, version)).copied().unwrap_or(false),
        None => pivots.range((saga, 0)..=(saga, u32::MAX)).next_back().is_some_and(|(_, has)| *has),
    };
    // Through sagas that run sagas; a circle is refused later.
    for _ in 0..DEPTH_MAX {
        for one in outlines.iter().flatten() {
            if one.runs.iter().any(|run| has_one(&pivots, &run.saga, run.version)) {
                pivots.insert((&one.saga, one.version), true);
            }
        }
    }
    for ((_, text), outline) in texts.iter_mut().zip(&outlines) {
        let runs = outline.iter().flat_map(|one| &one.runs);
        let steps = runs.filter(|run| has_one(&pivots, &run.saga, run.version)).map(|run| run.step.clone());
        *text = definition::with_pivots(text, &steps.collect());
    }
}

struct Sagas<'d>(BTreeMap<&'d str, BTreeMap<u32, &'d SagaDefinition>>);

impl<'d> Sagas<'d> {
    fn find(&self, child: &Child) -> Option<&'d SagaDefinition> {
        let versions = self.0.get(child.saga.as_str())?;
        match child.version {
            Some(version) => versions.get(&version).copied(),
            None => versions.values().next_back().copied(),
        }
    }

    fn known(
        &self,
        saga: &SagaDefinition,
        step: &Step,
        key: &str,
        child: &Child,
    ) -> Result<&'d SagaDefinition, Box<Finding>> {
        self.find(child).ok_or_else(|| {
            let versions = self.0.get(child.saga.as_str());
            let help = match (versions, child.version) {
                (Some(versions), Some(_)) => {
                    let there: Vec<String> = versions.keys().map(ToString::to_string).collect();
                    format!("there is version {}", there.join(", "))
                }
                _ => match crate::expression::suggest(child.saga.as_str(), self.0.keys().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there is {}", self.0.keys().copied().collect::<Vec<_>>().join(", ")),
                },
            };
            let version = child.version.map_or_else(String::new, |version| format!(" version {version}"));
            Box::new(said(saga, step, key, UNKNOWN_SAGA, format!("there is no saga `{}`{version}", child.saga), help))
        })
    }

    fn forward(&self, saga: &SagaDefinition, step: &Step, child: &Child) -> Option<Finding> {
        let found = match self.known(saga, step, "run", child) {
            Ok(found) => found,
            Err(finding) => return Some(*finding),
        };
        let mut path = vec![saga.name.as_str()];
        if let Some(circle) = self.circle(found, &mut path) {
            let help = "let one of them end without the other".to_owned();
            return Some(said(saga, step, "run", CIRCLE, circle, help));
        }
        let has_pivot = found.steps.iter().any(|step| step.pivot);
        (has_pivot && !step.pivot).then(|| {
            let message = format!("saga `{}` has a point of no return, so this step is one", found.name);
            let help = if step.after_pivot {
                "there is a pivot before it on its path, and a path has one".to_owned()
            } else {
                "leave `pivot: false` out".to_owned()
            };
            said(saga, step, "run", CHILD_PIVOT, message, help)
        })
    }

    /// Says which sagas run each other, if following them from here leads back or too deep.
    fn circle(&self, saga: &'d SagaDefinition, path: &mut Vec<&'d str>) -> Option<String> {
        let name = saga.name.as_str();
        let back = path.contains(&name);
        path.push(name);
        if back {
            return Some(format!("these sagas run each other for ever: {}", path.join(" → ")));
        }
        if path.len() > DEPTH_MAX {
            return Some(format!("more than {DEPTH_MAX} sagas run each other: {}", path.join(" → ")));
        }
        let children = saga.steps.iter().filter_map(|step| match &step.action {
            Action::Run(child) => self.find(child),
            _ => None,
        });
        let found = children.into_iter().find_map(|child| self.circle(child, path));
        path.pop();
        found
    }
}

fn said(saga: &SagaDefinition, step: &Step, key: &str, code: &'static str, message: String, help: String) -> Finding {
    told(at_step(&saga.file, &saga.source, (step.id.as_str(), key), code, message, help), &saga.source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::reload;

    fn found(texts: &[&str]) -> Vec<String> {
        let mut texts: Vec<_> = texts.iter().map(|text| ("test.yaml".to_owned(), (*text).to_owned())).collect();
        resolve_pivots(&mut texts);
        let load = |(_, text): &(String, String)| {
            reload("test.yaml", text).unwrap_or_else(|found| panic!("{found:?}\n{text}"))
        };
        let definitions: Vec<SagaDefinition> = texts.iter().map(load).collect();
        let mut findings = Vec::new();
        check(&definitions, &mut findings);
        let show = |found: Finding| {
            format!(
                "{}:{}:{} {}; {}",
                found.code,
                found.line,
                found.column,
                found.message,
                found.help.unwrap_or_default()
            )
        };
        findings.into_iter().map(show).collect()
    }

    #[test]
    fn children_are_looked_up() {
        let leaf = "saga: leaf\nsteps: [{ id: a, wait: 1s }]\n";
        let pivot = "saga: pivot\nsteps: [{ id: a, call: x, with: { method: POST, path: /a }, pivot: true }]\n";
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("there", &[leaf, "saga: top\nsteps: [{ id: r, run: leaf }]\n"], &[]),
            (
                "misspelt",
                &[leaf, "saga: top\nsteps:\n  - { id: r, run: laef }\n"],
                &["F005:3:19 there is no saga `laef`; did you mean `leaf`?"],
            ),
            (
                "another version",
                &[leaf, "saga: top\nsteps:\n  - { id: r, run: leaf, version: 7 }\n"],
                &["F005:3:19 there is no saga `leaf` version 7; there is version 1"],
            ),
            (
                "itself",
                &["saga: top\nsteps: [{ id: r, run: top }]\n"],
                &["F006:2:23 these sagas run each other for ever: top → top; let one of them end without the other"],
            ),
            (
                "in a circle",
                &["saga: a\nsteps: [{ id: r, run: b }]\n", "saga: b\nsteps: [{ id: r, run: a }]\n"],
                &[
                    "F006:2:23 these sagas run each other for ever: a → b → a; let one of them end without the other",
                    "F006:2:23 these sagas run each other for ever: b → a → b; let one of them end without the other",
                ],
            ),
            (
                "a pivot that says it is none",
                &[pivot, "saga: top\nsteps: [{ id: r, run: pivot, pivot: false }]\n"],
                &["F007:2:23 saga `pivot` has a point of no return, so this step is one; leave `pivot: false` out"],
            ),
            ("a pivot by its child", &[pivot, "saga: top\nsteps: [{ id: r, run: pivot }]\n"], &[]),
            (
                "behind it nothing is undone",
                &[
                    "saga: over\nsteps: [{ id: r, run: top }, { id: s, call: x, with: { method: POST, path: /a } }, { id: t, wait: 1s }]\n",
                    "saga: top\nsteps: [{ id: r, run: pivot }]\n",
                    pivot,
                ],
                &[],
            ),
            ("a pivot that is one", &[pivot, "saga: top\nsteps: [{ id: r, run: pivot, pivot: true }]\n"], &[]),
            (
                "an undo",
                &[
                    leaf,
                    "saga: top\nsteps:\n  - { id: r, call: x, with: { method: POST, path: /a }, compensate: { run: laef } }\n",
                ],
                &["F005:3:57 there is no saga `laef`; did you mean `leaf`?"],
            ),
        ];
        for (why, texts, expected) in rows {
            assert_eq!(found(texts), *expected, "{why}");
        }
    }
}
