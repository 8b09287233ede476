//! The table against the reader, the JSON Schema against the files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::*;
use crate::definition::reader::Reader;
use crate::definition::{file, step, yaml};
use crate::payload::Payload;
use crate::schema::Schema;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads a saga file's text as the JSON that its YAML means.
fn json(text: &str) -> Option<Payload> {
    let (node, found) = yaml::parse(text);
    let node = node.filter(|_| found.is_empty())?;
    Some(Reader::new(text, Vec::new()).json(&node)).filter(|json| !json.is_null())
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == "yaml")).collect();
    files.sort();
    files
}

static STEP_VALUE: Value = Value::Mapping(&STEP);

/// Every mapping of the table, by name.
fn mappings() -> BTreeMap<&'static str, &'static Mapping> {
    fn visit(value: &'static Value, out: &mut BTreeMap<&'static str, &'static Mapping>) {
        match value {
            Value::Mapping(mapping) if out.contains_key(mapping.name) => {}
            Value::Mapping(mapping) => {
                out.insert(mapping.name, mapping);
                mapping.keys.iter().for_each(|key| visit(&key.value, out));
            }
            Value::List(inner) | Value::Named(inner) => visit(inner, out),
            Value::OneOf(values) => values.iter().for_each(|value| visit(value, out)),
            Value::Steps => visit(&STEP_VALUE, out),
            _ => {}
        }
    }
    let mut out = BTreeMap::from([(FILE.name, &FILE)]);
    FILE.keys.iter().for_each(|key| visit(&key.value, &mut out));
    out
}

#[test]
fn the_json_schema_is_the_one_that_is_kept() {
    let mut text = serde_json::to_string_pretty(&json_schema()).unwrap();
    text.push('\n');
    let path = root().join("schemas/saga.schema.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "schemas/saga.schema.json is not what the table says; UPDATE_GOLDEN=1 rewrites it");
}

#[test]
fn what_loads_fits_the_json_schema() {
    let schema = Schema::compile(&Payload::of(&json_schema())).unwrap_or_else(|found| panic!("{found:?}"));
    let mut texts: Vec<(String, String)> = files("sagas")
        .into_iter()
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    texts.push(("bench".to_owned(), include_str!("../../cli/bench/order.yaml").to_owned()));
    assert!(texts.len() >= 2);
    for (name, text) in texts {
        let json = json(&text).unwrap_or_else(|| panic!("{name} is no YAML"));
        assert!(schema.validate(&json).is_ok(), "{name}: {:#?}", schema.validate(&json));
    }
}

/// What the reader refuses for its keys and shapes, an editor refuses too.
#[test]
fn mistakes_of_shape_do_not_fit() {
    let schema = Schema::compile(&Payload::of(&json_schema())).unwrap();
    let mut count = 0;
    for path in files("tests/diagnostics") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if !["S007", "S009", "S014"].iter().any(|code| name.starts_with(code)) {
            continue;
        }
        let Some(json) = json(&std::fs::read_to_string(&path).unwrap()) else { continue };
        if name.contains("set_without_call") {
            continue; // whether an undo needs a `call` depends on its step
        }
        assert!(schema.validate(&json).is_err(), "{name} fits the JSON Schema");
        count += 1;
    }
    assert!(count >= 4, "only {count} files");
}

#[test]
fn every_key_is_described_once() {
    for (name, mapping) in mappings() {
        let mut seen = BTreeSet::new();
        assert!(mapping.about.ends_with(['.', ':']), "{name}: {}", mapping.about);
        for key in mapping.keys {
            assert!(seen.insert(key.name), "{name} has `{}` twice", key.name);
            assert!(key.about.ends_with(['.', '`', ')']) && key.about.len() > 8, "{name}.{}: {}", key.name, key.about);
        }
        for key in mapping.one_of {
            assert!(seen.contains(key), "{name} has no `{key}`");
        }
    }
}

/// The reader's lists of keys hold no word that the table lacks.
#[test]
fn the_table_knows_every_key_of_the_reader() {
    let mappings = mappings();
    let of = |names: &[&str]| -> BTreeSet<&str> {
        names.iter().flat_map(|name| mappings[name].keys.iter().map(|key| key.name)).collect()
    };
    let step: BTreeSet<&str> = step::words().collect();
    assert_eq!(&step - &of(&["step"]), BTreeSet::new(), "the reader has step keys that the table lacks");
    let top: BTreeSet<&str> = file::words().collect();
    assert_eq!(&top - &of(&["saga", "trigger", "retry"]), BTreeSet::new(), "the table lacks keys of the top level");
}

/// What the table has, the reader has: or it says of the key that this version does not serve it.
#[test]
fn the_reader_knows_every_key_of_the_table() {
    let world = crate::definition::tests::World::new();
    let says = |text: &str, key: &str| {
        let found = crate::definition::load("x.yaml", text, &world.environment()).err().unwrap_or_default();
        found.into_iter().any(|found| found.code == "S007" && found.message.contains(&format!("`{key}`")))
    };
    for key in FILE.keys {
        assert!(!says(&format!("saga: a\n{}: 1\n", key.name), key.name), "the reader has no `{}`", key.name);
    }
    for key in STEP.keys {
        let text = format!("saga: a\nsteps:\n  - {{ id: a, set: 1, {}: 1 }}\n", key.name);
        assert!(!says(&text, key.name), "the reader has no step key `{}`", key.name);
    }
    let places = [
        ("trigger", "on: [{ event: order.placed.v2, KEY: 1 }]"),
        ("defaults", "defaults: { KEY: 1 }"),
        ("finally", "finally: { KEY: 1 }"),
        ("retry", "defaults: { retry: { KEY: 1 } }"),
        ("parallel", "steps: [{ id: a, parallel: { KEY: 1 } }]"),
        ("for", "steps: [{ id: a, for: { KEY: 1 }, do: [{ id: b, wait: 1s }] }]"),
        ("catch", "steps: [{ id: a, try: [{ id: b, wait: 1s }], catch: [{ KEY: 1 }] }]"),
        ("poll", "steps: [{ id: a, poll: { KEY: 1 }, call: payments }]"),
        ("ask", "steps: [{ id: a, ask: { KEY: 1 } }]"),
        ("await", "steps: [{ id: a, await: { KEY: 1 } }]"),
        ("reply", "steps: [{ id: a, emit: order.fulfilled.v1, reply: { KEY: 1 } }]"),
        ("fail", "steps: [{ id: a, fail: { KEY: 1 } }]"),
        ("fallback", "steps: [{ id: a, call: payments, fallback: { KEY: 1 } }]"),
        ("cache", "steps: [{ id: a, call: payments, cache: { KEY: 1 } }]"),
        ("paginate", "steps: [{ id: a, call: payments, paginate: { KEY: 1 } }]"),
        ("with", "steps: [{ id: a, call: payments, with: { KEY: 1 } }]"),
        ("classify", "steps: [{ id: a, call: payments, classify: { KEY: 1 } }]"),
        ("on_unknown", "steps: [{ id: a, call: payments, on_unknown: { KEY: 1 } }]"),
        ("check", "steps: [{ id: a, call: payments, on_unknown: { check: { KEY: 1 } } }]"),
        ("idempotency", "steps: [{ id: a, call: payments, idempotency: { KEY: 1 } }]"),
        ("compensate", "steps: [{ id: a, call: payments, compensate: { KEY: 1 } }]"),
        ("service", "services: { own: { KEY: 1 } }"),
        ("branch", "steps: [{ id: a, switch: [{ KEY: 1 }] }]"),
    ];
    let mappings = mappings();
    for (name, place) in places {
        for key in mappings[name].keys {
            let text = format!("saga: a\n{}\n", place.replace("KEY", key.name));
            assert!(!says(&text, key.name), "the reader has no `{}` in {name}", key.name);
        }
    }
}
