//! Sagas that `run` each other: each must be there, none may lead back to itself, and one with a pivot makes a
//! pivot of the step that runs it.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::load::told;
use crate::definition::{Action, Child, Compensate, SagaDefinition, Step, at_step};

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
                "write `pivot: true`".to_owned()
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
        let load = |text: &&str| reload("test.yaml", text).unwrap_or_else(|found| panic!("{found:?}\n{text}"));
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
                "a pivot that is none here",
                &[pivot, "saga: top\nsteps: [{ id: r, run: pivot }]\n"],
                &["F007:2:23 saga `pivot` has a point of no return, so this step is one; write `pivot: true`"],
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
