//! Every file in `sagas/` against services that fail at each step in each way, undos that fail, everything
//! repeated, and a crash at every commit: what each call left behind is as the promises say.

use std::path::Path;
use std::sync::Arc;

use backstitch::definition::{self, Action, Compensate, SagaDefinition};
use backstitch::payload::Payload;
use backstitch::saga::{Operation, UndoStatus};

use super::services::Behaviour;
use super::world::{Crash, Plan, World};

/// One fault, and a crash.
#[derive(Clone, Default)]
struct Script {
    /// The n-th different call in order of coming, from 0, and what happens to its first attempts.
    forward: Option<(usize, Behaviour)>,
    undo: Option<(usize, Behaviour)>,
    met: Vec<String>,
    undone: Vec<String>,
    crash_at: Option<(usize, Crash)>,
    last_commit: usize,
    remedies_left: u32,
}

fn place(met: &mut Vec<String>, path: &str) -> usize {
    met.iter().position(|known| known == path).unwrap_or_else(|| {
        met.push(path.to_owned());
        met.len() - 1
    })
}

impl Plan for Script {
    fn forward(&mut self, path: &str, attempt: u32) -> Behaviour {
        let at = place(&mut self.met, path);
        match self.forward {
            Some((wanted, behaviour)) if wanted == at && attempt <= 6 => behaviour,
            _ => Behaviour::Ok,
        }
    }
    fn undo(&mut self, path: &str, attempt: u32) -> Behaviour {
        let at = place(&mut self.undone, path);
        match self.undo {
            Some((wanted, behaviour)) if wanted == at && attempt <= 2 => behaviour,
            _ => Behaviour::Ok,
        }
    }
    fn check(&mut self, _: &str, _: u32) -> Behaviour {
        Behaviour::Ok
    }
    fn crash(&mut self, commit: usize) -> Crash {
        self.last_commit = commit;
        match self.crash_at.take_if(|(at, _)| *at == commit) {
            Some((_, crash)) => crash,
            None => Crash::No,
        }
    }
    fn operate(&mut self, _: &str) -> Option<(u64, Operation)> {
        None
    }
    fn parked(&mut self, remedies: &[&str]) -> Option<Operation> {
        self.remedies_left = self.remedies_left.checked_sub(1)?;
        remedies.contains(&"retry").then_some(Operation::Retry { new_key: false })
    }
}

const FAULTS: [Behaviour; 6] = [
    Behaviour::Refuse,
    Behaviour::LoseRequest,
    Behaviour::LoseReply,
    Behaviour::Error,
    Behaviour::Busy,
    Behaviour::Late(500),
];

fn sagas() -> Vec<(String, Arc<SagaDefinition>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sagas");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (
                name.clone(),
                Arc::new(definition::reload(&name, &text).unwrap_or_else(|found| panic!("{name}: {found:?}"))),
            )
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// One input that fits every saga here.
const INPUT: &str = r#"{"orderId":"A-1","bookingId":"A-1","transferId":"A-1","customerId":"A-1","name":"Ada","night":"2026-11-26T02:00:00.000Z","cents":200000,
    "lines":[{"sku":"a","qty":1,"price":3},{"sku":"b","qty":2,"price":4}]}"#;

fn run(name: &str, definition: &Arc<SagaDefinition>, script: Script) -> World<Script> {
    let what = format!("{name}: {:?} {:?} {:?}", script.forward, script.undo, script.crash_at);
    let mut world = World::new(Arc::clone(definition), script);
    world.careful = false;
    world.input = Payload::parse(INPUT).unwrap();
    world.event = Payload::parse(r#"{"data":{"bookingId":"A-1","orderId":"A-1","amount":1}}"#).unwrap();
    world.answer = Payload::parse(r#"{"approved":true,"grant":true}"#).unwrap();
    if let Err(why) = world.run() {
        panic!("{what}: {why}\n{}", world.story());
    }
    check(&what, definition, &world);
    world
}

/// What every call left behind is as the run's end says.
fn check(what: &str, definition: &SagaDefinition, world: &World<Script>) {
    let state = world.state.as_ref().unwrap();
    let ended = state.state().as_str();
    assert!(matches!(ended, "completed" | "compensated" | "parked"), "{what} is {ended}\n{}", world.story());
    for (at, step) in &state.steps {
        let rule = definition.step(at.step);
        let path = at.path(definition);
        // The world's answers to `check` are not those of this file's service.
        let asked = rule.on_unknown.check.is_some();
        let undoable = matches!((&rule.action, &rule.compensate), (Action::Call(_), Compensate::Call(_)));
        let applied = world.services.applied(&path);
        if undoable && ended == "compensated" {
            assert!(!applied, "{what}: {path} stands in a compensated run\n{}", world.story());
        }
        if undoable && !asked && ended == "completed" && matches!(step.undo.status, UndoStatus::NotStarted) {
            let word = step.status_word();
            assert_eq!(applied, word == "done", "{what}: {path} is {word}\n{}", world.story());
        }
        let times = world.services.effects.get(&*path).map_or(0, |effect| effect.times);
        assert!(times <= 1, "{what}: {path} took effect {times} times\n{}", world.story());
    }
}

#[test]
fn every_saga_survives_every_fault_at_every_step() {
    let mut runs = 0;
    for (name, definition) in sagas() {
        let plain = run(&name, &definition, Script::default());
        let (steps, commits) = (plain.plan.met.len(), plain.plan.last_commit);
        assert_eq!(plain.state.as_ref().unwrap().state().as_str(), "completed", "{name}\n{}", plain.story());
        runs += 1;
        for fault in FAULTS {
            for at in 0..steps {
                let script = Script { forward: Some((at, fault)), remedies_left: 3, ..Script::default() };
                let failed = run(&name, &definition, script.clone());
                runs += 1;
                // What the failure undoes may fail in turn.
                for undo in 0..failed.plan.undone.len() {
                    for broken in [Behaviour::Refuse, Behaviour::LoseReply, Behaviour::Error, Behaviour::Busy] {
                        run(&name, &definition, Script { undo: Some((undo, broken)), ..script.clone() });
                        runs += 1;
                    }
                }
                // A crash at each commit of it, with and without what was written last.
                if fault == Behaviour::Refuse || fault == Behaviour::LoseReply {
                    for commit in 2..=failed.plan.last_commit {
                        for crash in [Crash::Lost, Crash::Kept] {
                            run(&name, &definition, Script { crash_at: Some((commit, crash)), ..script.clone() });
                            runs += 1;
                        }
                    }
                }
            }
        }
        for commit in 2..=commits {
            for crash in [Crash::Lost, Crash::Kept] {
                run(&name, &definition, Script { crash_at: Some((commit, crash)), ..Script::default() });
                runs += 1;
            }
        }
    }
    println!("{runs} runs of the sagas in sagas/");
}
