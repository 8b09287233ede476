//! Schema files by path and text → what is known of each event type. All mistakes of all files at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::compile::Schema;
use super::{Entry, Files, Finding, Policy, Registry, Upcaster};
use crate::id::EventType;
use crate::payload::Payload;

/// The schema of saga files, for editors: no event type's.
const SAGA_FILES: &str = "saga.schema.json";

/// What a path says.
enum Role {
    Schema(EventType),
    /// Of this version's schema.
    Example(EventType),
    /// From the first version to the second.
    Step(EventType, EventType),
    /// Of this name.
    Policy(String),
    Other,
}

pub(super) fn load(files: impl IntoIterator<Item = (String, String)>) -> Result<Registry, Vec<Finding>> {
    let (mut entries, mut examples, mut findings) = (BTreeMap::<EventType, Entry>::new(), Vec::new(), Vec::new());
    let (mut steps, mut policies) = (Vec::new(), BTreeMap::new());
    let mut schemas: Vec<EventType> = Vec::new();
    for (path, text) in files {
        match role(&path) {
            Ok(Role::Other) => {}
            Ok(Role::Step(from, to)) => steps.push((from, to, path, text)),
            Ok(Role::Policy(name)) => match Policy::parse(&path, &text) {
                Ok(policy) => drop(policies.insert(name, policy)),
                Err(found) => findings.extend(found),
            },
            Ok(Role::Example(event_type)) => examples.push((event_type, path, text)),
            Ok(Role::Schema(event_type)) => {
                if let Some(first) = entries.get(&event_type) {
                    findings.push(whole(&path, format!("{event_type} has a schema already, {}", first.path)));
                    continue;
                }
                schemas.push(event_type.clone());
                match compile(&path, text) {
                    Ok((source, schema)) => {
                        entries.insert(event_type, Entry { path, source, schema, examples: Vec::new() });
                    }
                    Err(found) => findings.extend(found),
                }
            }
            Err(message) => findings.push(whole(&path, message)),
        }
    }
    for (event_type, path, text) in examples {
        let Some(entry) = entries.get_mut(&event_type) else {
            // A schema that is there but wrong has been reported itself.
            if !schemas.contains(&event_type) {
                findings.push(whole(&path, format!("an example of {event_type}, which has no schema")));
            }
            continue;
        };
        match parse(&path, text) {
            Ok(example) => match entry.schema.validate(&example) {
                Ok(()) => entry.examples.push((path, example)),
                Err(violations) => findings.extend(violations.into_iter().map(|violation| Finding {
                    path: path.clone(),
                    pointer: violation.pointer,
                    message: format!("the example breaks {}: {}", entry.path, violation.message),
                })),
            },
            Err(finding) => findings.push(finding),
        }
    }
    let mut compiled = BTreeMap::new();
    for (from, to, path, text) in steps {
        match step(&entries, &schemas, (from, to), &path, &text) {
            Ok(Some(step)) => {
                compiled.insert((step.from.name().to_owned(), step.from.version(), step.to.version()), step);
            }
            Ok(None) => {}
            Err(found) => findings.extend(found),
        }
    }
    findings.sort_by(|a, b| (&a.path, &a.pointer).cmp(&(&b.path, &b.pointer)));
    if !findings.is_empty() {
        return Err(findings);
    }
    Ok(Registry(Arc::new(Files { entries, steps: compiled, policies })))
}

/// Compiles a step and proves it on the examples of the version that it begins at.
fn step(
    entries: &BTreeMap<EventType, Entry>,
    schemas: &[EventType],
    (from, to): (EventType, EventType),
    path: &str,
    text: &str,
) -> Result<Option<Upcaster>, Vec<Finding>> {
    for side in [&from, &to] {
        if !schemas.contains(side) {
            return Err(vec![whole(path, format!("it leads from {from} to {to}, but {side} has no schema"))]);
        }
    }
    let step = Upcaster::compile(path, from, to, text)?;
    // A schema that is there but wrong has been reported itself.
    let (Some(source), Some(target)) = (entries.get(&step.from), entries.get(&step.to)) else { return Ok(None) };
    if source.examples.is_empty() {
        let message = format!("there is no example to prove it on; add examples/v{}.json", step.from.version());
        return Err(vec![whole(path, message)]);
    }
    let mut findings = Vec::new();
    for (name, example) in &source.examples {
        match step.run(example) {
            Err(failed) => findings.push(whole(path, format!("on {name}: {failed}"))),
            Ok(made) => findings.extend(target.schema.validate(&made).err().into_iter().flatten().map(|violation| {
                let message = format!("what it makes of {name} breaks {}: {}", target.path, violation.message);
                Finding { path: path.to_owned(), pointer: violation.pointer, message }
            })),
        }
    }
    if findings.is_empty() { Ok(Some(step)) } else { Err(findings) }
}

fn whole(path: &str, message: String) -> Finding {
    Finding { path: path.to_owned(), pointer: String::new(), message }
}

/// Reads the role of a file off its path.
fn role(path: &str) -> Result<Role, String> {
    let mut parts = path.rsplit(['/', '\\']);
    let file = parts.next().unwrap_or_default();
    let name = || parts.clone().next().unwrap_or_default();
    if let Some(stem) = file.strip_suffix(".jq") {
        let versions = stem.split_once(".from-").and_then(|(to, from)| Some((version(from)?, version(to)?)));
        let wrong = || format!("`{file}` names no versions; name the file vN.from-vM.jq, such as v2.from-v1.jq");
        let (from, to) = versions.ok_or_else(wrong)?;
        let typed = |version: u32| EventType::parse(&format!("{}.v{version}", name()));
        let (from_type, to_type) = (typed(from), typed(to));
        let (from_type, to_type) = (from_type.map_err(|e| e.to_string())?, to_type.map_err(|e| e.to_string())?);
        if from.abs_diff(to) != 1 {
            return Err(format!(
                "`{file}` leaves versions out; write one file for each step, v2.from-v1.jq, v3.from-v2.jq"
            ));
        }
        return Ok(Role::Step(from_type, to_type));
    }
    if file == "policy.yaml" || file == "policy.yml" {
        return Ok(Role::Policy(name().to_owned()));
    }
    let Some(stem) = file.strip_suffix(".json").filter(|_| file != SAGA_FILES) else {
        return Ok(Role::Other);
    };
    let folder = parts.next().filter(|folder| !matches!(*folder, "" | "." | ".."));
    let folder = folder.ok_or("a schema lies in a folder named by its event type, such as order.placed/v2.json")?;
    let is_example = folder == "examples";
    let folder = if is_example {
        parts.next().ok_or("`examples` lies in a folder named by an event type, such as order.placed/examples")?
    } else {
        folder
    };
    // `v2`, and for examples also `v2-two-lines` or `v2.large`.
    let word = if is_example { stem.split(['-', '.', '_']).next().unwrap_or_default() } else { stem };
    if version(word).is_none() {
        let wanted = if is_example { "vN.json or vN-name.json" } else { "vN.json" };
        return Err(format!("`{file}` says no version; name the file {wanted}, N from 1"));
    }
    let event_type = EventType::parse(&format!("{folder}.{word}")).map_err(|error| error.to_string())?;
    Ok(if is_example { Role::Example(event_type) } else { Role::Schema(event_type) })
}

/// Reads `v2`.
fn version(word: &str) -> Option<u32> {
    let digits = word.strip_prefix('v').filter(|digits| !digits.starts_with('0'))?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

fn parse(path: &str, text: String) -> Result<Payload, Finding> {
    Payload::parse(text).map_err(|error| whole(path, format!("no JSON: {error}")))
}

fn compile(path: &str, text: String) -> Result<(Payload, Schema), Vec<Finding>> {
    let source = parse(path, text).map_err(|finding| vec![finding])?;
    let located = |mut finding: Finding| {
        finding.path = path.to_owned();
        finding
    };
    let schema = Schema::compile(&source).map_err(|found| found.into_iter().map(located).collect::<Vec<_>>())?;
    Ok((source, schema))
}
