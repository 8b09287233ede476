//! Random sagas of steps inside steps, with random faults: `parallel`, races, `for`, `try`, `fallback`,
//! `optional`, waits for events, people and children. What must follow what is worked out here from the
//! drawn tree alone, by comparing places; nothing of the product's plan is used.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use backstitch::definition;

use super::observe::Seen;
use super::random::Chance;
use super::rng::Rng;
use super::world::World;

/// Runs in an ordinary `cargo test`.
const SEEDS: u64 = 1_500;

/// Where a step stands: one part for each list, branch and item around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The n-th thing of things one after the other.
    After(usize),
    /// One of several side by side.
    Beside(usize),
}

/// Text of a file, and what is known of its calls.
struct Draw<'r> {
    rng: &'r mut Rng,
    text: String,
    ids: usize,
    /// Items that a `for` goes through: the input's `two` has two.
    calls: BTreeMap<String, Vec<Part>>,
    kinds: BTreeSet<&'static str>,
    depth_max: usize,
}

#[derive(Clone)]
struct Place {
    indent: usize,
    depth: usize,
    /// Paths of this list's steps begin so, once for each item that is gone through.
    prefixes: Vec<(String, Vec<Part>)>,
    fors: usize,
}

impl Draw<'_> {
    fn line(&mut self, indent: usize, text: &str) {
        let _ = writeln!(self.text, "{}{text}", " ".repeat(indent));
    }

    fn id(&mut self) -> String {
        self.ids += 1;
        format!("s{}", self.ids)
    }

    fn list(&mut self, place: &Place) {
        self.depth_max = self.depth_max.max(place.depth);
        let count = 1 + self.rng.below(3) as usize;
        for at in 0..count {
            self.step(place, at);
        }
    }

    fn inside(&self, place: &Place, id: &str, part: Part, indent: usize) -> Place {
        let prefixes = place
            .prefixes
            .iter()
            .map(|(path, parts)| {
                let mut parts = parts.clone();
                parts.push(part);
                (format!("{path}{id}/"), parts)
            })
            .collect();
        Place { indent, depth: place.depth + 1, prefixes, fors: place.fors }
    }

    fn step(&mut self, place: &Place, position: usize) {
        let at = |parts: &[Part]| {
            let mut parts = parts.to_vec();
            parts.push(Part::After(position));
            parts
        };
        let place = &Place {
            prefixes: place.prefixes.iter().map(|(path, parts)| (path.clone(), at(parts))).collect(),
            ..place.clone()
        };
        let id = self.id();
        let indent = place.indent;
        self.line(indent, &format!("- id: {id}"));
        let inner = indent + 2;
        let deep = place.depth >= 4;
        match if deep { 0 } else { self.rng.below(16) } {
            7 | 8 => {
                let branches = 2 + self.rng.below(2) as usize;
                let race = self.rng.chance(350);
                let join = if race { "any" } else { "all" };
                self.kinds.insert(if race { "race" } else { "parallel" });
                let failing = *self.rng.pick(&["settle", "cancel"]);
                self.line(inner, "parallel:");
                self.line(inner, &format!("  join: {join}"));
                self.line(inner, &format!("  on_failure: {failing}"));
                self.line(inner, "  branches:");
                for branch in 0..branches {
                    self.line(inner, &format!("    b{branch}:"));
                    let inside = self.inside(place, &id, Part::Beside(branch), inner + 6);
                    self.list(&inside);
                }
                self.handled(place, &id, inner, true);
            }
            9 | 10 if place.fors < 2 => {
                self.kinds.insert("for");
                let concurrency = 1 + self.rng.below(3);
                let tolerate = self.rng.below(2);
                self.line(
                    inner,
                    &format!(
                        "for: {{ in: \"${{ $input.items }}\", concurrency: {concurrency}, tolerate: {tolerate} }}"
                    ),
                );
                self.line(inner, "do:");
                let mut prefixes = Vec::new();
                for (path, parts) in &place.prefixes {
                    for item in 0..3 {
                        let mut parts = parts.clone();
                        parts.push(if concurrency == 1 { Part::After(item) } else { Part::Beside(item) });
                        prefixes.push((format!("{path}{id}[{item}]/"), parts));
                    }
                }
                let inside = Place { indent: inner + 2, depth: place.depth + 1, prefixes, fors: place.fors + 1 };
                self.list(&inside);
                self.handled(place, &id, inner, true);
            }
            11 | 12 => {
                self.kinds.insert("try");
                self.line(inner, "try:");
                let body = self.inside(place, &id, Part::After(0), inner + 2);
                self.list(&body);
                self.line(inner, "catch:");
                let keep = self.rng.chance(400);
                self.line(inner, &format!("  - keep: {keep}"));
                if self.rng.chance(200) {
                    self.line(inner, "    on: [never.happens]");
                }
                self.line(inner, "    do:");
                let handler = self.inside(place, &id, Part::After(1), inner + 6);
                self.list(&handler);
                self.handled(place, &id, inner, true);
            }
            13 => {
                self.kinds.insert("switch");
                self.line(inner, "switch:");
                self.line(inner, "  - when: ${ $input.amount == 7 }");
                self.line(inner, "    do:");
                let inside = self.inside(place, &id, Part::After(0), inner + 6);
                self.list(&inside);
            }
            14 => {
                self.kinds.insert("await");
                self.line(inner, "await: sim.answered.v1");
                self.line(inner, "where: { data.order: \"${ $input.order }\" }");
                self.line(inner, "timeout: 2s");
                self.line(inner, "compensate: none");
                if self.rng.chance(300) {
                    self.line(inner, "on_timeout:");
                    let inside = self.inside(place, &id, Part::After(0), inner + 2);
                    self.list(&inside);
                }
                self.handled(place, &id, inner, false);
            }
            15 => match self.rng.below(3) {
                0 => {
                    self.kinds.insert("ask");
                    self.line(inner, "ask: may it be done?");
                    self.line(inner, "timeout: 2s");
                    self.handled(place, &id, inner, false);
                }
                1 => {
                    self.kinds.insert("run");
                    self.line(inner, "run: other");
                    self.handled(place, &id, inner, false);
                }
                _ => {
                    self.kinds.insert("reply");
                    self.line(inner, "emit: sim.wanted.v1");
                    self.line(inner, "data: { order: \"${ $input.order }\" }");
                    self.line(inner, "reply: { done: sim.done.v1, refused: sim.refused.v1, timeout: 1s }");
                    self.line(inner, "compensate: { emit: sim.unwanted.v1, data: {} }");
                    self.handled(place, &id, inner, false);
                }
            },
            6 => {
                self.kinds.insert("wait");
                let wait = 10 + self.rng.below(3_000);
                self.line(inner, &format!("wait: {wait}ms"));
            }
            _ => {
                self.line(inner, "call: svc");
                self.line(
                    inner,
                    &format!("with: {{ method: POST, path: /{id}, body: {{ key: \"${{ $step.key }}\" }} }}"),
                );
                self.line(
                    inner,
                    &format!("compensate: {{ with: {{ method: DELETE, path: \"/{id}/${{ $forward.key }}\" }} }}"),
                );
                if self.rng.chance(250) {
                    let conclusive = self.rng.chance(400);
                    self.line(
                        inner,
                        &format!(
                            "on_unknown: {{ check: {{ with: {{ method: GET, path: /{id} }}, happened: \"${{ $result.body.applied }}\", conclusive: {conclusive}, retry: {{ attempts: 2, delay: 50ms, jitter: none }} }} }}"
                        ),
                    );
                }
                for (path, parts) in &place.prefixes {
                    self.calls.insert(format!("{path}{id}"), parts.clone());
                }
                self.handled(place, &id, inner, false);
            }
        }
    }

    /// Sometimes a failure is handled where it happens.
    fn handled(&mut self, place: &Place, id: &str, inner: usize, composite: bool) {
        match self.rng.below(if composite { 5 } else { 8 }) {
            0 => {
                self.kinds.insert("optional");
                self.line(inner, "optional: true");
            }
            1 if place.depth < 4 => {
                self.kinds.insert("fallback");
                self.line(inner, "fallback:");
                self.line(inner, "  do:");
                let inside = self.inside(place, id, Part::After(9), inner + 4);
                self.list(&inside);
            }
            2 => {
                self.kinds.insert("fallback");
                self.line(inner, "fallback: { value: 0 }");
            }
            _ => {}
        }
    }
}

/// A drawn file.
struct Drawn {
    text: String,
    calls: BTreeMap<String, Vec<Part>>,
    kinds: BTreeSet<&'static str>,
    depth: usize,
}

fn draw(rng: &mut Rng) -> Drawn {
    let mut draw = Draw {
        rng,
        text: String::from(
            "saga: sim\nversion: 1\nservices:\n  svc: { url: \"http://127.0.0.1:1\" }\n\
             defaults:\n  timeout: 1s\n  retry: { attempts: 3, delay: 100ms, factor: 2, max_delay: 1s, jitter: none }\n  \
             compensate: { retry: { attempts: 4, delay: 100ms, factor: 2, max_delay: 1s, jitter: none } }\n",
        ),
        ids: 0,
        calls: BTreeMap::new(),
        kinds: BTreeSet::new(),
        depth_max: 0,
    };
    if draw.rng.chance(200) {
        let timeout = 500 + draw.rng.below(20_000);
        draw.line(0, &format!("timeout: {timeout}ms"));
    }
    draw.line(0, "steps:");
    let place = Place { indent: 2, depth: 0, prefixes: vec![(String::new(), Vec::new())], fors: 0 };
    draw.list(&place);
    if draw.rng.chance(250) {
        // Whatever was done is to be undone.
        draw.line(2, "- id: stop\n    fail: { type: stop, title: stop }");
    }
    let Draw { text, calls, kinds, depth_max, .. } = draw;
    Drawn { text, calls, kinds, depth: depth_max }
}

/// True when the one must be through before the other begins.
fn before(one: &[Part], other: &[Part]) -> bool {
    for (a, b) in one.iter().zip(other) {
        match (a, b) {
            (Part::After(a), Part::After(b)) if a != b => return a < b,
            (Part::Beside(a), Part::Beside(b)) if a != b => return false,
            (Part::After(_), Part::After(_)) | (Part::Beside(_), Part::Beside(_)) => {}
            _ => return false,
        }
    }
    false
}

/// What is known of one call while the story is gone through.
#[derive(Default, Clone)]
struct Call {
    begun: bool,
    /// The last word recorded: `done refused unknown`.
    word: Option<String>,
    undone: Option<String>,
    in_flight: bool,
    keys: BTreeSet<String>,
    undo_keys: BTreeSet<String>,
}

/// Goes through a story and says what breaks a promise.
fn violations(drawn: &Drawn, seen: &[(u64, Seen)], applied: impl Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut calls: BTreeMap<&str, Call> = drawn.calls.keys().map(|path| (path.as_str(), Call::default())).collect();
    let (mut undoing, mut state, mut resolved, mut skipped, mut emitted) = (false, "", false, false, BTreeSet::new());
    let mut next_number = 0;
    for (_, one) in seen {
        match one {
            Seen::Recorded { fact, path, word } => {
                if matches!(state, "completed" | "compensated") {
                    wrong.push(format!("2 {fact} is recorded behind the end"));
                }
                undoing |= fact == "undo_began";
                let Some(call) = path.as_deref().and_then(|path| calls.get_mut(path)) else { continue };
                match fact.as_str() {
                    "step_started" => call.begun = true,
                    "step_ended" => call.word.clone_from(word),
                    "undo_ended" => {
                        skipped |= word.as_deref() == Some("skipped");
                        call.undone.clone_from(word);
                    }
                    _ => {}
                }
            }
            Seen::Sent { path, direction, key, .. } => {
                let parts = drawn.calls.get(path).cloned().unwrap_or_default();
                match *direction {
                    "forward" => {
                        if undoing {
                            wrong.push(format!("6 {path} is sent while the run undoes"));
                        }
                        // All that comes before it has ended.
                        for (other, known) in &calls {
                            if known.in_flight && before(&drawn.calls[*other], &parts) {
                                wrong.push(format!("7 {path} is sent while {other} before it is in flight"));
                            }
                        }
                    }
                    "compensate" => {
                        for (other, known) in &calls {
                            let stands = known.begun
                                && known.undone.is_none()
                                && matches!(known.word.as_deref(), Some("done" | "unknown"));
                            if stands && before(&parts, &drawn.calls[*other]) {
                                wrong.push(format!("7 {path} is undone while {other} behind it stands"));
                            }
                        }
                        let call = calls.get(path.as_str()).cloned().unwrap_or_default();
                        if call.in_flight {
                            wrong.push(format!("7 {path} is undone while an attempt of it is in flight"));
                        }
                        if !matches!(call.word.as_deref(), Some("done" | "unknown")) {
                            wrong.push(format!("3 {path} is undone, but it is {:?}", call.word));
                        }
                    }
                    _ => {}
                }
                let Some(call) = calls.get_mut(path.as_str()) else { continue };
                match *direction {
                    "forward" => {
                        call.in_flight = true;
                        call.keys.insert(key.clone());
                    }
                    "compensate" => {
                        call.undo_keys.insert(key.clone());
                    }
                    _ => {}
                }
                if state == "paused" {
                    wrong.push(format!("22 {path} leaves while the run is paused"));
                }
            }
            Seen::Answered { path, direction: "forward", .. } => {
                if let Some(call) = calls.get_mut(path.as_str()) {
                    call.in_flight = false;
                }
            }
            Seen::Crashed => calls.values_mut().for_each(|call| call.in_flight = false),
            Seen::State { state: now } => state = now,
            Seen::Operated { command } => resolved |= command == "resolve",
            Seen::Emitted { number, id, .. } => {
                if *number != next_number {
                    wrong.push(format!("13 event {number} where {next_number} comes"));
                }
                next_number += 1;
                emitted.insert(id.clone());
            }
            Seen::Answered { .. }
            | Seen::Applied { .. }
            | Seen::Undone { .. }
            | Seen::Child { .. }
            | Seen::Restarted => {}
        }
    }
    match state {
        "completed" | "compensated" | "parked" => {}
        other => wrong.push(format!("1 it ends as {other}")),
    }
    let mut keys = BTreeMap::new();
    for (path, call) in &calls {
        if call.keys.len() > 1 || call.undo_keys.len() > 1 {
            wrong.push(format!("8 {path} has several keys"));
        }
        for key in call.keys.iter().chain(&call.undo_keys) {
            if let Some(other) = keys.insert(key.clone(), *path) {
                wrong.push(format!("8 {path} and {other} share a key"));
            }
        }
        // A person's word may stand against the service's.
        if resolved {
            continue;
        }
        if state == "compensated" && applied(path) && !(skipped && call.undone.as_deref() == Some("skipped")) {
            wrong.push(format!("4a {path} stands in a compensated run"));
        }
        if state == "completed" {
            match (call.word.as_deref(), call.undone.as_deref()) {
                (Some("done"), None) if !applied(path) => wrong.push(format!("4b {path} is done, and not there")),
                (Some("unknown"), None) => wrong.push(format!("4b {path} is left unknown")),
                (_, Some("undone")) if applied(path) => wrong.push(format!("4b {path} is undone, and there")),
                _ => {}
            }
        }
    }
    wrong
}

struct Told {
    violations: Vec<String>,
    story: String,
    text: String,
    kinds: BTreeSet<&'static str>,
    depth: usize,
    state: String,
    crashes: usize,
}

fn one(seed: u64, faults: bool) -> Told {
    let mut rng = Rng::new(seed ^ 0x6e65_7374);
    let drawn = draw(&mut rng);
    let definition = match definition::reload("sim.yaml", &drawn.text) {
        Ok(definition) => Arc::new(definition),
        Err(found) => {
            let all: Vec<String> =
                found.iter().map(|one| format!("{}:{}: {}", one.line, one.column, one.message)).collect();
            panic!("seed {seed}: the drawn file does not load:\n{}\n{}", all.join("\n"), drawn.text);
        }
    };
    let mut world = World::new(definition, Chance::draw(rng, faults));
    world.careful = seed.is_multiple_of(32);
    let ended = world.run();
    let mut violations: Vec<String> = ended.err().into_iter().collect();
    violations.extend(self::violations(&drawn, &world.seen, |path| world.services.applied(path)));
    let state = world.seen.iter().rev().find_map(|(_, seen)| match seen {
        Seen::State { state } => Some(state.clone()),
        _ => None,
    });
    Told {
        violations,
        story: world.story(),
        text: drawn.text,
        kinds: drawn.kinds,
        depth: drawn.depth,
        state: state.unwrap_or_default(),
        crashes: world.crashes,
    }
}

#[test]
fn nested_runs_keep_every_promise() {
    let only = env::var("SIM_SEED").ok().map(|seed| seed.parse::<u64>().expect("SIM_SEED is a number"));
    let count = env::var("SIM_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(SEEDS);
    let begun = Instant::now();
    let (mut kinds, mut states, mut crashes, mut deep) = (BTreeMap::new(), BTreeMap::new(), 0, 0_u64);
    for seed in only.map_or(0..count, |seed| seed..seed + 1) {
        let told = one(seed, true);
        if only.is_some() {
            println!("{}\n{}", told.text, told.story);
        }
        assert!(
            told.violations.is_empty(),
            "seed {seed}\n{}\n{}\n{}\nrepeat it: SIM_SEED={seed} cargo test --test sim nested -- --nocapture",
            told.text,
            told.story,
            told.violations.join("\n")
        );
        told.kinds.iter().for_each(|kind| *kinds.entry(*kind).or_insert(0_u64) += 1);
        *states.entry(told.state).or_insert(0_u64) += 1;
        crashes += told.crashes;
        deep += u64::from(told.depth >= 3);
    }
    let share = |part: u64| part * 100 / count;
    let mix: Vec<String> = kinds.iter().map(|(kind, times)| format!("{kind} {}%", share(*times))).collect();
    println!(
        "{count} nested runs in {:?}, {crashes} crashes, ends {states:?}\n{}, three deep {}%",
        begun.elapsed(),
        mix.join(", "),
        share(deep)
    );
    if only.is_none() {
        assert!(share(deep) >= 5, "three deep only in {}%", share(deep));
        for kind in ["parallel", "race", "for", "try", "switch", "await", "ask", "run", "reply", "optional", "fallback"]
        {
            let times = kinds.get(kind).copied().unwrap_or_default();
            assert!(times * 20 >= count, "{kind} only in {times} of {count}");
        }
    }
}

/// The control: without faults nothing but the file makes a run fail.
#[test]
fn nested_runs_without_faults_end_as_the_file_says() {
    for seed in 0..500 {
        let told = one(seed, false);
        assert!(told.violations.is_empty(), "seed {seed}\n{}\n{}", told.text, told.violations.join("\n"));
        let fails = told.text.contains("fail: {") || told.text.contains("\ntimeout:");
        assert!(fails || told.state == "completed", "seed {seed} is {}\n{}\n{}", told.state, told.text, told.story);
    }
}
