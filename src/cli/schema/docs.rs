//! `backstitch schema docs`: all events for those who write producers and consumers: an AsyncAPI 3 document
//! for programs, a catalogue in Markdown for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::Folder;
use crate::app::{Sources, load};
use crate::cli::exit::{Code, Failure, Outcome};
use crate::cli::output;
use crate::id::EventType;
use crate::schema::{Entry, Registry};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Saga files, or folders of them: who takes and who sends an event [default: ./sagas].
    #[arg(long, value_name = "PATH")]
    sagas: Vec<PathBuf>,
    /// Where to write `asyncapi.json` and `events.md`.
    #[arg(long, value_name = "DIR", default_value = "event-docs")]
    out: PathBuf,
    /// The document's title.
    #[arg(long, default_value = "Events")]
    title: String,
}

/// What a saga has to do with events.
struct Saga {
    name: String,
    takes: Vec<EventType>,
    sends: Vec<EventType>,
}

pub fn run(args: &Args) -> Outcome {
    let registry = super::load_or_tell(&args.folder.path())?;
    let sagas = sagas(args, &registry)?;
    let write = |name: &str, text: String| {
        let path = args.out.join(name);
        std::fs::create_dir_all(&args.out)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| Failure::new(Code::Failed, format!("cannot write {}: {error}", path.display())))?;
        output::line(format!("wrote {}", path.display()))?;
        Ok::<(), Failure>(())
    };
    let mut text = serde_json::to_string_pretty(&asyncapi(&registry, &sagas, &args.title)).unwrap_or_default();
    text.push('\n');
    write("asyncapi.json", text)?;
    write("events.md", catalogue(&registry, &sagas, &args.title))
}

fn sagas(args: &Args, registry: &Registry) -> Result<Vec<Saga>, Failure> {
    let paths = match args.sagas.as_slice() {
        [] => load::folder_or_none(None, "sagas").into_iter().collect(),
        named => named.to_vec(),
    };
    let sources = Sources { sagas: paths, schemas: None };
    let loaded = load::load_with(None, &sources, registry.clone()).map_err(|findings| {
        for finding in &findings {
            anstream::eprintln!("{}\n", finding.rendered);
        }
        super::super::diagnostics::summary(&findings);
        Failure::said(Code::BadInput)
    })?;
    let saga = |entry: &crate::coordinator::Entry| {
        let definition = &entry.definition;
        Saga {
            name: format!("{} v{}", definition.name, definition.version),
            takes: definition.triggers.iter().map(|trigger| trigger.event.clone()).collect(),
            sends: sends(&definition.source),
        }
    };
    Ok(loaded.catalogue.all().map(saga).collect())
}

/// Returns the types that stand behind `emit:` in a saga file.
fn sends(source: &str) -> Vec<EventType> {
    let mut types: Vec<EventType> = Vec::new();
    for line in source.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for (at, _) in line.match_indices("emit:") {
            let word = line[at + "emit:".len()..].trim_start().trim_start_matches(['"', '\'']);
            let end = word.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')));
            let parsed = EventType::parse(&word[..end.unwrap_or(word.len())]);
            types.extend(parsed.ok().filter(|event_type| !types.contains(event_type)));
        }
    }
    types
}

/// Makes references inside a schema lead to where the schema stands in the document.
fn placed(schema: &Value, base: &str) -> Value {
    match schema {
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| match (name.as_str(), value) {
                ("$ref", Value::String(reference)) => {
                    let moved = reference.strip_prefix('#').map(|inside| format!("#{base}{inside}"));
                    (name.clone(), Value::from(moved.unwrap_or_else(|| reference.clone())))
                }
                ("const" | "enum" | "default" | "examples", value) => (name.clone(), value.clone()),
                (_, value) => (name.clone(), placed(value, base)),
            };
            Value::Object(members.iter().map(member).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(|item| placed(item, base)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
    }
}

fn asyncapi(registry: &Registry, sagas: &[Saga], title: &str) -> Value {
    let (mut channels, mut messages, mut operations) = (Map::new(), Map::new(), Map::new());
    for event_type in registry.types() {
        let Some(entry) = registry.get(event_type) else { continue };
        let (name, schema) = (event_type.to_string(), entry.source.to_value());
        channels.insert(
            name.clone(),
            json!({
                "address": format!("events.{event_type}"),
                "messages": { &name: { "$ref": format!("#/components/messages/{name}") } },
            }),
        );
        let draft_7 = schema["$schema"].as_str().is_some_and(|uri| uri.contains("draft-07"));
        let format = if draft_7 { "draft-07" } else { "2020-12" };
        let examples: Vec<Value> =
            entry.examples.iter().map(|(_, example)| json!({ "payload": example.to_value() })).collect();
        let mut message = json!({
            "name": name,
            "title": text(&schema, "title").unwrap_or(&name),
            "contentType": "application/json",
            "payload": {
                "schemaFormat": format!("application/schema+json;version={format}"),
                "schema": placed(&schema, &format!("/components/messages/{name}/payload/schema")),
            },
            "examples": examples,
        });
        if let Some(description) = text(&schema, "description") {
            message["description"] = json!(description);
        }
        messages.insert(name, message);
    }
    for saga in sagas {
        for (action, word, types) in [("receive", "starts on", &saga.takes), ("send", "sends", &saga.sends)] {
            for event_type in types.iter().filter(|event_type| registry.knows(event_type)) {
                let id = format!("{}-{action}-{event_type}", saga.name.replace(' ', "-"));
                let channel = format!("#/channels/{event_type}");
                let summary = format!("saga {} {word} {event_type}", saga.name);
                operations.insert(id, json!({ "action": action, "channel": { "$ref": channel }, "summary": summary }));
            }
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": { "title": title, "version": env!("CARGO_PKG_VERSION") },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages },
    })
}

fn text<'a>(schema: &'a Value, keyword: &str) -> Option<&'a str> {
    schema.get(keyword).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn catalogue(registry: &Registry, sagas: &[Saga], title: &str) -> String {
    let mut out =
        format!("# {title}\n\n| event | versions | compatibility | sent by | starts |\n|---|---|---|---|---|\n");
    for name in registry.names() {
        let versions: Vec<String> = registry.versions(name).iter().map(|version| format!("v{version}")).collect();
        let of_name = |types: &[EventType]| types.iter().any(|event_type| event_type.name() == name);
        let who = |pick: fn(&Saga) -> &[EventType]| {
            let names: Vec<&str> =
                sagas.iter().filter(|saga| of_name(pick(saga))).map(|saga| saga.name.as_str()).collect();
            names.join(", ")
        };
        let _ = writeln!(
            out,
            "| [{name}](#{}) | {} | {} | {} | {} |",
            name.replace('.', ""),
            versions.join(" "),
            registry.policy(name).word(),
            who(|saga| &saga.sends),
            who(|saga| &saga.takes)
        );
    }
    for name in registry.names() {
        let _ = write!(out, "\n## {name}\n");
        for version in registry.versions(name).into_iter().rev() {
            let entry = registry.of_version(name, version).and_then(|event_type| registry.get(event_type));
            if let Some(entry) = entry {
                describe(&mut out, registry, name, version, entry);
            }
        }
    }
    out
}

fn describe(out: &mut String, registry: &Registry, name: &str, version: u32, entry: &Entry) {
    let schema = entry.source.to_value();
    let _ = write!(out, "\n### {name}.v{version}\n\n");
    for keyword in ["title", "description"] {
        if let Some(text) = text(&schema, keyword) {
            let end = if text.ends_with('.') { "" } else { "." };
            let _ = write!(out, "{text}{end} ");
        }
    }
    let _ = writeln!(out, "Subject `events.{name}.v{version}`.");
    let rows = members(&schema);
    if !rows.is_empty() {
        out.push_str("\n| member | | required | |\n|---|---|---|---|\n");
        for (member, row) in rows {
            let _ = writeln!(
                out,
                "| `{member}` | {} | {} | {} |",
                row.kind,
                if row.required { "yes" } else { "" },
                row.text
            );
        }
    }
    if let Some(step) = version.checked_sub(1).and_then(|before| registry.step(name, before, version)) {
        let _ = writeln!(out, "\nOlder events are made into it by `{}`.", step.path);
    }
    if let Some((path, example)) = entry.examples.first() {
        let pretty = serde_json::to_string_pretty(&example.to_value()).unwrap_or_default();
        let _ = writeln!(out, "\nExample ({path}):\n\n```json\n{pretty}\n```");
    }
}

struct Row {
    kind: String,
    required: bool,
    text: String,
}

/// Returns the members of an object schema.
fn members(schema: &Value) -> BTreeMap<&str, Row> {
    let required = |name: &str| {
        schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|one| one == name))
    };
    let named = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    named
        .map(|(name, property)| {
            let kind = match property.get("type") {
                Some(Value::String(one)) => one.clone(),
                Some(Value::Array(several)) => {
                    several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
                }
                _ => String::new(),
            };
            let line = text(property, "description").unwrap_or_default().replace('|', "\\|").replace('\n', " ");
            (name.as_str(), Row { kind, required: required(name), text: line })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_saga_sends() {
        let source = "steps:\n  - id: a\n    emit: order.shipped.v1\n  # emit: no.such.v1\nfinally:\n  completed: { emit: \"order.fulfilled.v2\", data: {} }\n";
        let found: Vec<String> = sends(source).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["order.shipped.v1", "order.fulfilled.v2"]);
    }

    #[test]
    fn references_lead_into_the_document() {
        let schema = json!({"items": {"$ref": "#/$defs/line"}, "const": {"$ref": "#/kept"}, "not": {"$ref": "#"}});
        let expected =
            json!({"items": {"$ref": "#/x/$defs/line"}, "const": {"$ref": "#/kept"}, "not": {"$ref": "#/x"}});
        assert_eq!(placed(&schema, "/x"), expected);
    }
}
