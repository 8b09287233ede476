//! Runs that move between two versions of their saga while everything else goes on: as the versions say the
//! same, nothing that was promised may change. And what keeps a run from moving.

use std::collections::BTreeSet;
use std::sync::Arc;

use backstitch::definition::{self, SagaDefinition};
use backstitch::payload::Payload;
use backstitch::saga::{self, Input, Migration, Operation, Rejected};

use super::counted::count;
use super::nested;
use super::random::Chance;
use super::rng::Rng;
use super::table::Driver;
use super::tape::Recorder;
use super::world::World;

/// Runs in an ordinary `cargo test`.
const SEEDS: u64 = 2_000;

fn version_2(yaml: &str) -> Arc<SagaDefinition> {
    let yaml = yaml.replacen("version: 1\n", "version: 2\n", 1);
    Arc::new(definition::reload("sim.yaml", &yaml).unwrap_or_else(|found| panic!("{}\n{yaml}", found[0].message)))
}

#[test]
fn runs_that_move_keep_every_promise() {
    let (mut moved, mut kept, mut states, mut crashes) = (0, 0, BTreeSet::new(), 0);
    for seed in 1..=SEEDS {
        let (tree, definition) = nested::saga(seed / 4);
        let chance = Chance::draw(Rng::new(seed ^ 0x6661_756c), true);
        let mut world = World::new(definition, Recorder::new(chance));
        world.careful = false;
        // Tried after every event, after every second one, …
        world.moves = Some((version_2(&tree.yaml()), 1 + seed % 5));
        let found = nested::examine(&tree, &mut world);
        assert!(found.is_empty(), "seed {seed}:\n{}\n{}", found.join("\n"), world.story());
        moved += world.moved.len();
        kept += world.not_moved;
        crashes += world.crashes;
        states.extend(world.moved);
    }
    let states: Vec<&str> = states.into_iter().collect();
    assert_eq!(states, ["compensating", "parked", "paused", "running", "waiting"], "in each of them a run may move");
    assert!(moved > 2_000 && kept > 2_000 && crashes > 200, "{moved} {kept} {crashes}");
    let line = format!("{SEEDS} runs moved {moved} times between two versions, {kept} times they could not yet");
    println!("{line}; {crashes} crashes");
    count(&line);
}

/// What a run of the first file meets before it waits for ann's answer.
const FIRST: &str = "\
saga: sim
version: 1
services:
  svc: { url: \"http://127.0.0.1:1\" }
steps:
  - id: reserve
    call: svc
    with: { method: POST, path: /reserve }
    compensate: { with: { method: POST, path: /cancel } }
  - id: both
    parallel:
      branches:
        left: [{ id: chosen, set: 1 }]
        right: [{ id: approve, ask: { title: Well } }, { id: note, set: 2 }]
  - id: last
    set: 3
";

/// Why, what stands for what in the second file, and what the answer says; nothing where the run moves.
type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const ROWS: &[Row] = &[
    ("the same", &[], ""),
    ("what comes is other", &[("set: 3", "wait: 1s"), ("id: last", "id: end")], ""),
    ("the next step is another", &[("{ id: note, set: 2 }", "{ id: other, set: 7 }")], ""),
    ("nothing follows in the list", &[(", { id: note, set: 2 }", "")], ""),
    ("more follows", &[("{ id: note, set: 2 }", "{ id: first, set: 4 }, { id: note, set: 2 }")], ""),
    ("other retries of what is done", &[("path: /reserve }", "path: /reserve }\n    retry: { attempts: 9 }")], ""),
    ("a step is missing", &[("id: reserve", "id: book")], "version 2 has no `reserve`, which this run has met"),
    (
        "a step stands elsewhere",
        &[("  - id: reserve", "  - { id: before, set: 0 }\n  - id: reserve")],
        "`reserve` stands at another place in version 2",
    ),
    ("another kind", &[("ask: { title: Well }", "set: 9")], "`both/approve` is `set` in version 2 and `ask` here"),
    ("another undo", &[("/cancel", "/release")], "the undo of `reserve`, which has begun, is another one in version 2"),
    (
        "another output",
        &[("path: /reserve }", "path: /reserve }\n    output: ${ $result.status }")],
        "the output of `reserve`, which has begun, is made in another way in version 2",
    ),
    ("another value", &[("set: 1", "set: 5")], "the output of `both/chosen`, which has begun"),
    (
        "a branch more",
        &[("        left:", "        top: [{ id: more, set: 0 }]\n        left:")],
        "`both` is under way and has other branches in version 2",
    ),
    (
        "a list that is through is longer",
        &[("[{ id: chosen, set: 1 }]", "[{ id: chosen, set: 1 }, { id: late, set: 1 }]")],
        "the steps of `both`, which are through, are others in version 2",
    ),
    ("another saga", &[("saga: sim", "saga: other")], "other is another saga"),
];

fn waiting() -> Driver {
    let definition = definition::reload("sim.yaml", FIRST).unwrap_or_else(|found| panic!("{}", found[0].message));
    Driver::of(Arc::new(definition)).answered()
}

#[test]
fn what_a_run_has_met_must_be_the_same() {
    for (why, changes, expected) in ROWS {
        let mut yaml = FIRST.to_owned();
        for (from, to) in *changes {
            assert!(yaml.contains(from), "{why}: `{from}`");
            yaml = yaml.replacen(from, to, 1);
        }
        let to = version_2(&yaml);
        let mut driver = waiting();
        let wanted = Migration { to: Arc::clone(&to), new_undo: false, by: None };
        let reasons = saga::obstacles(&driver.definition, &driver.state, &wanted);
        match driver.migrate(wanted.clone()) {
            Ok(()) => assert_eq!((*expected, reasons), ("", Vec::new()), "{why}"),
            Err(Rejected::Conflict(told)) => {
                assert!(!expected.is_empty() && told.contains(expected), "{why}: {told}");
                assert!(!reasons.is_empty() && told.ends_with(&reasons.join("; ")), "{why}: {told}");
                assert_eq!(driver.state.begun.version, 1, "{why}");
                let wanted = Migration { new_undo: true, ..wanted };
                let free = saga::obstacles(&driver.definition, &driver.state, &wanted).is_empty();
                assert_eq!(free, *why == "another undo", "{why}: only undos may be other ones when that is said");
                continue;
            }
            Err(other) => panic!("{why}: {other}"),
        }
        assert_eq!((driver.state.begun.version, driver.state.begun.definition), (2, to.fingerprint), "{why}");
        let answer = Payload::parse("{}").unwrap();
        let step = *driver.state.active.first().unwrap();
        let driver = driver.given(Input::Operator(Operation::Answer { step, by: "ann".into(), answer }));
        // It goes on by the second file: each step of it that the run had not met comes in its place.
        for step in &to.steps {
            let at = to.find(step.id.as_str()).unwrap();
            assert_ne!(driver.state.step(at).status_word(), "not_started", "{why}: {}", step.path);
        }
    }
}

#[test]
fn a_run_that_is_busy_or_over_stays() {
    let definition = Arc::new(definition::reload("sim.yaml", FIRST).unwrap_or_else(|_| panic!("it loads")));
    let wanted = |to| Migration { to, new_undo: true, by: Some("ann".to_owned()) };
    let busy = Driver::of(Arc::clone(&definition));
    let why = saga::obstacles(&busy.definition, &busy.state, &wanted(version_2(FIRST)));
    assert!(why.len() == 1 && why[0].starts_with("a call is in flight"), "{why:?}");
    let mut here = waiting();
    let told = here.migrate(wanted(definition)).unwrap_err().to_string();
    assert_eq!(told, "migrate: it is on version 1 already");
    let step = *here.state.active.first().unwrap();
    let answer = Payload::parse("{}").unwrap();
    let mut over = here.given(Input::Operator(Operation::Answer { step, by: "ann".into(), answer }));
    let told = over.migrate(wanted(version_2(FIRST))).unwrap_err().to_string();
    assert_eq!(told, "migrate: the run has ended");
}
