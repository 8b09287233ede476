//! The one table of the language: every kind of step and every key, against everything that can happen to
//! it. The core runs each cell; what left, in which order, what stands and how the run ended are written
//! to `docs/behaviour.md`, which is a golden file. A key of the language without a row fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use backstitch::definition::{self, SagaDefinition};
use backstitch::saga::Operation;
use serde::Deserialize;

use super::observe::Seen;
use super::services::Behaviour;
use super::world::{Crash, EPOCH_MS, Plan, World};

#[derive(Deserialize)]
struct Row {
    name: String,
    about: String,
    step: String,
    after: Option<String>,
    #[serde(default)]
    top: String,
    target: Option<String>,
    /// It waits for somebody: in place of a lost answer, nobody comes.
    #[serde(default)]
    waits: bool,
}

/// Records that a step waits.
const WAITS: [&str; 3] = ["await_started", "ask_started", "wait_started"];

const AFTER: &str = "- { id: after, call: s, with: { method: POST, path: /after }, compensate: { with: { method: DELETE, path: /after } } }\n";

/// What happens, in the order of the columns.
const COLUMNS: [(&str, &str); 8] = [
    ("done", "all goes well"),
    ("refused", "the target is refused"),
    ("maybe", "it is done, and no answer to it arrives; who is waited for does not come"),
    ("crash", "the process dies at each commit, before or after the record is safe"),
    ("cancel", "an operator cancels while it is under way"),
    ("timeout", "the run's own time is over while it is under way"),
    ("undone", "the step behind it is refused"),
    ("undo fails", "and its undo is refused"),
];

#[derive(Clone, Default)]
struct Script {
    target: String,
    forward: Option<Behaviour>,
    after: Option<Behaviour>,
    undo: Option<Behaviour>,
    crash_at: Option<(usize, Crash)>,
    cancel: bool,
    last_commit: usize,
    met: bool,
}

impl Plan for Script {
    fn forward(&mut self, path: &str, _: u32) -> Behaviour {
        if path == self.target {
            return self.forward.unwrap_or(Behaviour::Ok);
        }
        match path {
            "after" => self.after.unwrap_or(Behaviour::Ok),
            // A question to a person.
            "" if self.forward.is_some() => Behaviour::LoseRequest,
            _ => Behaviour::Ok,
        }
    }
    fn undo(&mut self, path: &str, _: u32) -> Behaviour {
        let target = path == self.target || (self.target.is_empty() && path == "before");
        if target { self.undo.unwrap_or(Behaviour::Ok) } else { Behaviour::Ok }
    }
    fn check(&mut self, _: &str, _: u32) -> Behaviour {
        Behaviour::Ok
    }
    fn crash(&mut self, commit: usize) -> Crash {
        self.last_commit = commit;
        self.crash_at.take_if(|(at, _)| *at == commit).map_or(Crash::No, |(_, crash)| crash)
    }
    fn recorded(&mut self, path: Option<&str>) {
        self.met |= path.is_some_and(|path| path == self.target || path == "focus");
    }
    fn operate(&mut self, _: &str) -> Option<(u64, Operation)> {
        (self.met && std::mem::take(&mut self.cancel)).then_some((5, Operation::Cancel { reason: None }))
    }
    fn parked(&mut self, _: &[&str]) -> Option<Operation> {
        None
    }
}

impl Row {
    fn definition(&self, deadline_ms: Option<u64>) -> Arc<SagaDefinition> {
        let timeout = deadline_ms.map(|ms| format!("timeout: {ms}ms\n")).unwrap_or_default();
        let indented = |text: &str| text.lines().fold(String::new(), |all, line| all + "  " + line + "\n");
        let text = format!(
            "saga: cells\nversion: 1\n{timeout}{}services: {{ s: {{ url: \"http://127.0.0.1:1\" }} }}\n\
             defaults: {{ timeout: 1s, retry: {{ attempts: 2, delay: 100ms, jitter: none }}, \
             compensate: {{ retry: {{ attempts: 2, delay: 100ms, jitter: none }} }} }}\nsteps:\n  \
             - {{ id: before, call: s, with: {{ method: POST, path: /before }}, \
             compensate: {{ with: {{ method: DELETE, path: /before }} }} }}\n{}{}",
            self.top,
            indented(&self.step),
            indented(self.after.as_deref().unwrap_or(AFTER)),
        );
        Arc::new(
            definition::reload(&self.name, &text).unwrap_or_else(|found| panic!("{}: {found:?}\n{text}", self.name)),
        )
    }

    fn run(&self, deadline_ms: Option<u64>, script: Script) -> World<Script> {
        let target = self.target.clone().unwrap_or_else(|| "focus".to_owned());
        let script = Script { target, ..script };
        let mut world = World::new(self.definition(deadline_ms), script);
        if let Err(why) = world.run() {
            panic!("{}: {why}\n{}", self.name, world.story());
        }
        world
    }

    fn cells(&self) -> Vec<String> {
        let plain = self.run(None, Script::default());
        let begun = plain.seen.iter().find_map(|(at, seen)| match seen {
            Seen::Recorded { path: Some(path), .. } if *path == plain.plan.target || path == "focus" => {
                Some(at - EPOCH_MS)
            }
            _ => None,
        });
        let begun = begun.unwrap_or_else(|| panic!("{}: the target was never met\n{}", self.name, plain.story()));
        let refused = || Some(Behaviour::Refuse);
        let undone = Script { after: refused(), ..Script::default() };
        COLUMNS
            .iter()
            .map(|(column, _)| match *column {
                "done" => told(&plain),
                "refused" => told(&self.run(None, Script { forward: refused(), ..Script::default() })),
                "maybe" => {
                    let fault = if self.waits { Behaviour::LoseRequest } else { Behaviour::LoseReply };
                    told(&self.run(None, Script { forward: Some(fault), ..Script::default() }))
                }
                "crash" => self.crashes(&plain),
                "cancel" => told(&self.run(None, Script { cancel: true, ..Script::default() })),
                "timeout" => told(&self.run(Some(begun + 5), Script::default())),
                "undone" => told(&self.run(None, undone.clone())),
                "undo fails" => told(&self.run(None, Script { undo: refused(), ..undone.clone() })),
                other => panic!("{other} is no column"),
            })
            .collect()
    }

    /// Dies at each commit of the run that goes well; what stands at its end and how it ends is the same.
    fn crashes(&self, plain: &World<Script>) -> String {
        let mut ends = BTreeSet::new();
        let mut count = 0;
        for commit in 2..=plain.plan.last_commit {
            for crash in [Crash::Lost, Crash::Kept] {
                let world = self.run(None, Script { crash_at: Some((commit, crash)), ..Script::default() });
                assert!(
                    world.services.effects.values().all(|effect| effect.times as usize <= effect.keys.len()),
                    "{}",
                    world.story()
                );
                ends.insert(end(&world));
                count += 1;
            }
        }
        let same = ends.iter().next().filter(|_| ends.len() == 1).is_some_and(|only| *only == end(plain));
        match same {
            true => format!("{count} deaths | each ends as when all goes well"),
            false => format!("{count} deaths | {}", ends.into_iter().collect::<Vec<_>>().join("; or ")),
        }
    }
}

/// What left, in order: `call`, `-undo`, `?check`, `!event`; repeats of one are counted.
fn told(world: &World<Script>) -> String {
    let mut words: Vec<(String, usize)> = Vec::new();
    let mut keys: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for (_, seen) in &world.seen {
        let word = match seen {
            Seen::Sent { path, direction, key, .. } => {
                let first = keys.entry((path, direction)).or_insert(key);
                assert!(*first == key, "{path} {direction} keeps its key\n{}", world.story());
                match *direction {
                    "forward" => path.clone(),
                    "check" => format!("?{path}"),
                    _ => format!("-{path}"),
                }
            }
            // The next page, or the next look, is another call.
            Seen::Recorded { fact, path: Some(path), .. } if fact == "round_ended" => {
                keys.retain(|(known, _), _| known != path);
                continue;
            }
            Seen::Recorded { fact, path: Some(path), .. } if WAITS.contains(&fact.as_str()) => format!("~{path}"),
            Seen::Child { path, undo: false } => format!("▸{path}"),
            Seen::Child { path, undo: true } => format!("-▸{path}"),
            Seen::Emitted { event, .. } => format!("!{}", event.trim_start_matches("sim.").trim_end_matches(".v1")),
            _ => continue,
        };
        match words.last_mut().filter(|(last, _)| *last == word) {
            Some((_, times)) => *times += 1,
            None => words.push((word, 1)),
        }
    }
    let words: Vec<String> =
        words.into_iter().map(|(word, times)| if times == 1 { word } else { format!("{word} ×{times}") }).collect();
    format!("{} | {}", words.join(", "), end(world))
}

fn end(world: &World<Script>) -> String {
    let state = world.state.as_ref().expect("it is at rest");
    let word = if state.incomplete { "compensated, incomplete" } else { state.state().as_str() };
    let standing: Vec<&str> =
        world.services.effects.iter().filter(|(_, effect)| effect.applied).map(|(path, _)| path.as_str()).collect();
    match standing.is_empty() {
        true => format!("{word}; nothing stands"),
        false => format!("{word}; {} stand", standing.join(", ")),
    }
}

fn page(rows: &[Row]) -> String {
    let mut page = String::from(
        "# What each kind and key does\n\nEach step here stands between a call `before` and a call `after`, which have undos of their own. \
         Everything else is as little as can be: two attempts, undos too.\nThe table is written by a test that runs the core \
         (`cargo test --test sim cells`), and compared at each run.\n\nRead: `step` a call leaves, `-step` its undo, `?step` its check, \
         `!event` an event, \
         `▸step` a child run (`-▸step` one that undoes), `~step` a wait; `×3` three times in a row. Then how the run ends, and what stands at the services.\n\n",
    );
    for (column, means) in COLUMNS {
        let _ = writeln!(page, "- **{column}**: {means}.");
    }
    for row in rows {
        let _ = write!(page, "\n## {}\n\n{}\n\n```yaml\n{}{}```\n\n", row.name, row.about, row.top, row.step);
        page.push_str("| when | what leaves, in order | the run ends |\n|---|---|---|\n");
        for ((column, _), cell) in COLUMNS.iter().zip(row.cells()) {
            let (left, ends) = cell.split_once(" | ").unwrap_or((&cell, ""));
            let _ = writeln!(page, "| {column} | {left} | {ends} |");
        }
    }
    page
}

#[test]
fn every_kind_and_key_does_what_the_table_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(folder.join("tests/sim/cells/rows.yaml")).unwrap();
    let rows: Vec<Row> = serde_saphyr::from_str(&text).unwrap();
    let page = page(&rows);
    let file = folder.join("docs/behaviour.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    let different = page.lines().zip(golden.lines()).find(|(now, then)| now != then);
    assert!(page == golden, "docs/behaviour.md is another; UPDATE_GOLDEN=1 writes it: {different:?}");
    println!("{} rows of {} cells", rows.len(), COLUMNS.len());
}

/// Keys that change nothing of what leaves, and why.
const NO_ROW: [(&str, &str); 7] = [
    ("subject", "of a protocol that is not there"),
    ("message", "of a protocol that is not there"),
    ("metadata", "of a protocol that is not there"),
    ("operation", "of a protocol that is not there"),
    ("parameters", "of a protocol that is not there"),
    ("variables", "of a protocol that is not there"),
    ("action", "of a protocol that is not there"),
];

#[test]
fn every_key_of_a_step_has_a_row() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = std::fs::read_to_string(folder.join("tests/sim/cells/rows.yaml")).unwrap();
    let schema = std::fs::read_to_string(folder.join("schemas/saga.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let mut missing = Vec::new();
    for (name, part) in schema["$defs"].as_object().unwrap() {
        // Services, triggers and the file's own defaults have tests of their own.
        if ["service", "circuit", "rate_limit", "trigger", "input", "defaults", "defaults_compensate"]
            .contains(&name.as_str())
        {
            continue;
        }
        for key in part["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            let there = rows.contains(&format!("{key}:")) || NO_ROW.iter().any(|(known, _)| known == key);
            if !there {
                missing.push(format!("{name}.{key}"));
            }
        }
    }
    assert!(missing.is_empty(), "no row for {missing:?}");
}
