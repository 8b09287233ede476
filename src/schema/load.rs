//! Schema files by path and text → entries by event type. All mistakes of all files at once.

use std::collections::BTreeMap;

use super::compile::Schema;
use super::{Entry, Finding};
use crate::id::EventType;
use crate::payload::Payload;

/// The schema of saga files, for editors: no event type's.
const SAGA_FILES: &str = "saga.schema.json";

/// What a path says.
enum Role {
    Schema(EventType),
    /// Of this version's schema.
    Example(EventType),
    Other,
}

pub(super) fn load(
    files: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<EventType, Entry>, Vec<Finding>> {
    let (mut entries, mut examples, mut findings) = (BTreeMap::<EventType, Entry>::new(), Vec::new(), Vec::new());
    let mut schemas: Vec<EventType> = Vec::new();
    for (path, text) in files {
        match role(&path) {
            Ok(Role::Other) => {}
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
    findings.sort_by(|a, b| (&a.path, &a.pointer).cmp(&(&b.path, &b.pointer)));
    if findings.is_empty() { Ok(entries) } else { Err(findings) }
}

fn whole(path: &str, message: String) -> Finding {
    Finding { path: path.to_owned(), pointer: String::new(), message }
}

/// Reads the role of a file off its path.
fn role(path: &str) -> Result<Role, String> {
    let mut parts = path.rsplit(['/', '\\']);
    let file = parts.next().unwrap_or_default();
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
    let version = if is_example { stem.split(['-', '.', '_']).next().unwrap_or_default() } else { stem };
    let digits = version.strip_prefix('v').filter(|digits| {
        !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if digits.is_none() {
        let wanted = if is_example { "vN.json or vN-name.json" } else { "vN.json" };
        return Err(format!("`{file}` says no version; name the file {wanted}, N from 1"));
    }
    let event_type = EventType::parse(&format!("{folder}.{version}")).map_err(|error| error.to_string())?;
    Ok(if is_example { Role::Example(event_type) } else { Role::Schema(event_type) })
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
