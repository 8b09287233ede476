//! Break it at every step on purpose: fail, leave in doubt, repeat, crash after each record.

use std::sync::Arc;

use backstitch::saga::{self, Input, Operation};

use super::invariants::{Evidence, violations};
use super::observe::Seen;
use super::services::Behaviour;
use super::spec::{Check, Kind, Spec, Step, Undo, call, call_with, step};
use super::table::Driver;
use super::world::{Crash, Plan, World, load};

/// A plan written down: what happens where, everything else goes well.
#[derive(Default, Clone)]
pub struct Script {
    /// (path, attempts that it holds for, behaviour)
    pub forward: Vec<(String, u32, Behaviour)>,
    pub undo: Vec<(String, u32, Behaviour)>,
    pub check: Vec<(String, u32, Behaviour)>,
    pub crash: Option<(usize, Crash)>,
    /// (state, after ms, operation), each once.
    pub operate: Vec<(&'static str, u64, Operation)>,
    pub parked: Vec<Operation>,
}

fn behaviour(rows: &[(String, u32, Behaviour)], path: &str, attempt: u32) -> Behaviour {
    rows.iter().find(|(at, up_to, _)| at == path && attempt <= *up_to).map_or(Behaviour::Ok, |(.., what)| *what)
}

impl Plan for Script {
    fn forward(&mut self, path: &str, attempt: u32) -> Behaviour {
        behaviour(&self.forward, path, attempt)
    }
    fn undo(&mut self, path: &str, attempt: u32) -> Behaviour {
        behaviour(&self.undo, path, attempt)
    }
    fn check(&mut self, path: &str, attempt: u32) -> Behaviour {
        behaviour(&self.check, path, attempt)
    }
    fn crash(&mut self, commit: usize) -> Crash {
        match self.crash {
            Some((at, crash)) if at == commit => crash,
            _ => Crash::No,
        }
    }
    fn operate(&mut self, state: &str) -> Option<(u64, Operation)> {
        let at = self.operate.iter().position(|(wanted, ..)| *wanted == state)?;
        let (_, after, operation) = self.operate.remove(at);
        Some((after, operation))
    }
    fn parked(&mut self, _: &[&str]) -> Option<Operation> {
        if self.parked.is_empty() { None } else { Some(self.parked.remove(0)) }
    }
}

const ALWAYS: u32 = u32::MAX;

/// Runs a script and checks every invariant; returns the world for what the test itself asserts.
pub fn play(why: &str, spec: &Spec, script: Script) -> World<Script> {
    let mut world = World::new(load(spec), script);
    let rest = world.run();
    let mut found: Vec<String> = rest.err().into_iter().collect();
    found.extend(violations(&Evidence { spec, seen: &world.seen, services: &world.services }));
    assert!(found.is_empty(), "{why}: {}\n{}", found.join("\n"), world.story());
    world
}

fn state(world: &World<Script>) -> &'static str {
    world.state.as_ref().map_or("none", |state| state.state().as_str())
}

/// First undo call of each step, in order.
fn undone(world: &World<Script>) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for (_, seen) in &world.seen {
        if let Seen::Sent { path, direction: "compensate", .. } = seen
            && !order.contains(path)
        {
            order.push(path.clone());
        }
    }
    order
}

fn four() -> Spec {
    Spec::of(vec![call("a"), call("b"), call("c"), call("d")])
}

/// A saga with everything that this version has.
fn rich() -> Spec {
    let mut spec = Spec::of(vec![
        call("a"),
        step("note", Kind::Set),
        call_with("b", |call| call.check = Check::Ask),
        step("pause", Kind::Wait(500)),
        step("tell", Kind::Emit { stated: true }),
        step("gone", Kind::Skipped),
        step(
            "route",
            Kind::Switch {
                arms: vec![vec![call("x")], vec![call("y"), step("say", Kind::Emit { stated: true })]],
                taken: 1,
            },
        ),
        call_with("maybe", |call| call.optional = true),
        call_with("quiet", |call| call.undo = Undo::None),
        call_with("retract", |call| call.undo = Undo::Emit),
        call_with("point", |call| call.pivot = true),
        call_with("after", |call| call.undo = Undo::Unstated),
        step("shipped", Kind::Emit { stated: false }),
    ]);
    spec.lock = true;
    spec.timeout = Some(3_600_000);
    spec
}

fn calls(spec: &Spec) -> Vec<(String, Step)> {
    spec.route().into_iter().filter(|(_, s)| matches!(s.kind, Kind::Call(_))).map(|(p, s)| (p, s.clone())).collect()
}

#[test]
fn all_goes_well() {
    for spec in [four(), rich()] {
        let world = play("no fault", &spec, Script::default());
        assert_eq!(state(&world), "completed", "{}", world.story());
        assert_eq!(undone(&world), Vec::<String>::new());
    }
}

#[test]
fn a_refusal_at_every_step_undoes_the_steps_before_it_last_first() {
    let spec = four();
    for (at, path) in ["a", "b", "c", "d"].iter().enumerate() {
        let script = Script { forward: vec![((*path).to_owned(), ALWAYS, Behaviour::Refuse)], ..Script::default() };
        let world = play(path, &spec, script);
        let before: Vec<&str> = ["a", "b", "c", "d"][..at].iter().rev().copied().collect();
        assert_eq!(undone(&world), before, "refused at {path}");
        assert_eq!(state(&world), "compensated");
    }
}

#[test]
fn every_fault_at_every_step_of_a_rich_saga_keeps_the_promises() {
    let spec = rich();
    let faults = [
        Behaviour::Refuse,
        Behaviour::LoseRequest,
        Behaviour::LoseReply,
        Behaviour::Busy,
        Behaviour::Error,
        Behaviour::Late(5),
        Behaviour::Late(60_000),
    ];
    for (path, _) in calls(&spec) {
        for fault in faults {
            for times in [1, 2, ALWAYS] {
                // Behind the pivot it is tried forever: no fault there lasts.
                let times = if path == "after" { times.min(5) } else { times };
                let script = Script { forward: vec![(path.clone(), times, fault)], ..Script::default() };
                play(&format!("{fault:?} × {times} at {path}"), &spec, script);
            }
        }
    }
}

#[test]
fn an_unknown_step_is_undone_with_the_others() {
    let script = Script { forward: vec![("c".to_owned(), ALWAYS, Behaviour::LoseReply)], ..Script::default() };
    let world = play("c stays unknown", &four(), script);
    assert_eq!(undone(&world), ["c", "b", "a"]);
    assert_eq!(state(&world), "compensated");
}

#[test]
fn a_lost_reply_is_asked_about_and_counts_as_done() {
    let spec = Spec::of(vec![call("a"), call_with("b", |call| call.check = Check::Ask), call("c")]);
    let script = Script { forward: vec![("b".to_owned(), 1, Behaviour::LoseReply)], ..Script::default() };
    let world = play("asked", &spec, script);
    assert_eq!(state(&world), "completed");
    assert_eq!(world.services.effects["b"].times, 1);
    let sent =
        world.seen.iter().filter(|(_, s)| matches!(s, Seen::Sent { path, direction: "forward", .. } if path == "b"));
    assert_eq!(sent.count(), 1, "it was asked, not sent again");
}

#[test]
fn every_undo_may_be_repeated_and_may_fail_for_a_while() {
    let spec = four();
    for path in ["a", "b", "c"] {
        for fault in [Behaviour::LoseReply, Behaviour::LoseRequest, Behaviour::Busy, Behaviour::Error] {
            let script = Script {
                forward: vec![("d".to_owned(), ALWAYS, Behaviour::Refuse)],
                undo: vec![(path.to_owned(), 2, fault)],
                ..Script::default()
            };
            let world = play(&format!("{fault:?} at undo of {path}"), &spec, script);
            assert_eq!(undone(&world), ["c", "b", "a"]);
            assert_eq!(state(&world), "compensated");
        }
    }
}

#[test]
fn an_exhausted_undo_parks_and_goes_on_by_an_operator() {
    let fails = || Script {
        forward: vec![("d".to_owned(), ALWAYS, Behaviour::Refuse)],
        undo: vec![("b".to_owned(), 4, Behaviour::Error)],
        ..Script::default()
    };
    let world = play("parks", &four(), fails());
    assert_eq!(state(&world), "parked");
    assert_eq!(undone(&world), ["c", "b"], "what depends on it waits");
    let retried = Script { parked: vec![Operation::Retry { new_key: false }], ..fails() };
    let world = play("retry", &four(), retried);
    assert_eq!((state(&world), undone(&world)), ("compensated", vec!["c".into(), "b".into(), "a".into()]));
    let skipped = Script { parked: vec![Operation::Skip], ..fails() };
    let world = play("skip", &four(), skipped);
    assert_eq!(state(&world), "compensated");
    assert!(world.state.as_ref().is_some_and(|state| state.incomplete), "a skipped undo is told");
    let resolved = Script { parked: vec![Operation::ResolveDone { output: None }], ..fails() };
    let world = play("resolve", &four(), resolved);
    assert_eq!(state(&world), "compensated");
}

#[test]
fn a_refused_undo_is_tried_twice() {
    let script = Script {
        forward: vec![("b".to_owned(), ALWAYS, Behaviour::Refuse)],
        undo: vec![("a".to_owned(), ALWAYS, Behaviour::Refuse)],
        ..Script::default()
    };
    let world = play("refused undo", &four(), script);
    assert_eq!(state(&world), "parked");
    let sent = world.seen.iter().filter(|(_, s)| matches!(s, Seen::Sent { direction: "compensate", .. }));
    assert_eq!(sent.count(), 2);
}

#[test]
fn a_crash_after_every_record_changes_nothing_but_the_time() {
    for spec in [four(), rich()] {
        let routes: Vec<(&str, Script)> = vec![
            ("well", Script::default()),
            (
                "refused late",
                Script {
                    forward: vec![(
                        calls(&spec).last().map(|(p, _)| p.clone()).unwrap_or_default(),
                        2,
                        Behaviour::Refuse,
                    )],
                    ..Script::default()
                },
            ),
            ("doubt", Script { forward: vec![("b".to_owned(), ALWAYS, Behaviour::LoseReply)], ..Script::default() }),
            (
                "undo fails",
                Script {
                    forward: vec![("b".to_owned(), ALWAYS, Behaviour::Refuse)],
                    undo: vec![("a".to_owned(), 2, Behaviour::LoseReply)],
                    ..Script::default()
                },
            ),
        ];
        for (why, script) in routes {
            let whole = play(why, &spec, script.clone());
            for commit in 2..=whole.commits {
                for crash in [Crash::Kept, Crash::Lost] {
                    let script = Script { crash: Some((commit, crash)), ..script.clone() };
                    let world = play(&format!("{why}, {crash:?} at commit {commit}"), &spec, script);
                    let same = state(&world) == state(&whole);
                    // A crash during an attempt makes a refusal doubtful: it may end undone instead.
                    assert!(
                        same || state(&world) == "compensated" || state(&world) == "parked",
                        "{why} {commit}\n{}",
                        world.story()
                    );
                }
            }
        }
    }
}

#[test]
fn a_cancel_at_every_moment_undoes_or_is_refused() {
    for state_word in ["running", "waiting", "compensating"] {
        for after in [0, 5, 15, 400, 700] {
            let spec = rich();
            let script =
                Script { operate: vec![(state_word, after, Operation::Cancel { reason: None })], ..Script::default() };
            let world = play(&format!("cancel {after} ms after {state_word}"), &spec, script);
            assert!(matches!(state(&world), "compensated" | "completed"), "{}", world.story());
        }
    }
}

#[test]
fn pause_holds_everything_and_resume_goes_on() {
    for after in [0, 5, 15, 300] {
        let script = Script { operate: vec![("running", after, Operation::Pause)], ..Script::default() };
        // Without a timeout, which runs on while paused.
        let spec = Spec { timeout: None, ..rich() };
        let world = play(&format!("pause after {after}"), &spec, script);
        assert_eq!(state(&world), "completed");
        let mut paused = false;
        for (_, seen) in &world.seen {
            match seen {
                Seen::State { state } => paused = state == "paused",
                Seen::Sent { path, .. } => assert!(!paused, "{path} left while paused\n{}", world.story()),
                _ => {}
            }
        }
    }
}

#[test]
fn the_timeout_undoes_what_was_done() {
    let mut spec = Spec::of(vec![call("a"), step("long", Kind::Wait(60_000)), call("b")]);
    spec.timeout = Some(5_000);
    let world = play("timeout", &spec, Script::default());
    assert_eq!((state(&world), undone(&world)), ("compensated", vec!["a".to_owned()]));
    let end = world.seen.iter().map(|(at, _)| *at).max().unwrap_or_default() - super::world::EPOCH_MS;
    assert!((5_000..6_000).contains(&end), "it ends with the timeout, at {end} ms");
}

#[test]
fn a_pivot_in_doubt_is_repeated_then_parks_and_nothing_moves() {
    let spec = Spec::of(vec![
        call("a"),
        call_with("point", |call| call.pivot = true),
        call_with("after", |call| call.undo = Undo::Unstated),
    ]);
    let doubt = || Script { forward: vec![("point".to_owned(), 3, Behaviour::LoseReply)], ..Script::default() };
    let world = play("pivot in doubt", &spec, doubt());
    assert_eq!((state(&world), undone(&world)), ("parked", vec![]));
    let done = Script { parked: vec![Operation::ResolveDone { output: None }], ..doubt() };
    assert_eq!(state(&play("resolved as done", &spec, done)), "completed");
    let retried = Script { parked: vec![Operation::Retry { new_key: false }], ..doubt() };
    assert_eq!(state(&play("retried", &spec, retried)), "completed");
    let refused = Script { forward: vec![("point".to_owned(), ALWAYS, Behaviour::Refuse)], ..Script::default() };
    let world = play("pivot refused", &spec, refused);
    assert_eq!((state(&world), undone(&world)), ("compensated", vec!["a".to_owned()]));
}

#[test]
fn a_late_request_behind_the_undo_meets_the_barrier() {
    let spec = Spec::of(vec![call("a"), call("b")]);
    let script = Script { forward: vec![("b".to_owned(), ALWAYS, Behaviour::Late(600_000))], ..Script::default() };
    let world = play("late", &spec, script.clone());
    assert_eq!(state(&world), "compensated");
    // The control: without the barrier the same run ends with an effect, and the checker says so.
    let mut open = World::new(load(&spec), script);
    open.services.no_barrier = true;
    assert!(open.run().is_ok());
    let found = violations(&Evidence { spec: &spec, seen: &open.seen, services: &open.services });
    assert!(found.iter().any(|one| one.starts_with("4a")), "the control must break 4a, found {found:?}");
}

#[test]
fn a_participant_that_ignores_keys_is_noticed() {
    let spec = four();
    let script = Script { forward: vec![("b".to_owned(), 1, Behaviour::LoseReply)], ..Script::default() };
    let mut world = World::new(load(&spec), script);
    world.services.ignore_keys = true;
    assert!(world.run().is_ok());
    assert_eq!(world.services.effects["b"].times, 2, "the control does it twice");
}

#[test]
fn an_optional_step_in_doubt_is_cleared_before_the_run_goes_on() {
    let spec = Spec::of(vec![call("a"), call_with("b", |call| call.optional = true), call("c")]);
    let script = Script { forward: vec![("b".to_owned(), ALWAYS, Behaviour::LoseReply)], ..Script::default() };
    let world = play("cleared", &spec, script);
    assert_eq!((state(&world), undone(&world)), ("completed", vec!["b".to_owned()]));
    assert!(!world.services.applied("b") && world.services.applied("c"));
}

#[test]
fn a_person_decides_where_the_file_says_so() {
    let spec = Spec::of(vec![call("a"), call_with("b", |call| call.park_unknown = true), call("c")]);
    let doubt = || Script { forward: vec![("b".to_owned(), ALWAYS, Behaviour::LoseReply)], ..Script::default() };
    assert_eq!(state(&play("parks", &spec, doubt())), "parked");
    let done = Script { parked: vec![Operation::ResolveDone { output: None }], ..doubt() };
    assert_eq!(state(&play("done", &spec, done)), "completed");
    let not = Script { parked: vec![Operation::ResolveNotDone], ..doubt() };
    assert_eq!(undone(&play("not done", &spec, not)), ["a"]);
    let cancelled =
        Script { parked: vec![Operation::Cancel { reason: None }, Operation::ResolveDone { output: None }], ..doubt() };
    assert_eq!(undone(&play("cancelled", &spec, cancelled)), ["b", "a"]);
}

/// A child is cancelled by a message that dies with the process: after a restart it is asked again.
#[test]
fn a_child_of_what_settles_is_asked_to_end_also_after_a_restart() {
    let yaml = "saga: sim\nversion: 1\nsteps:\n  - id: both\n    parallel:\n      on_failure: settle\n      branches:\n        \
                left: [{ id: inner, run: other, input: {}, compensate: none }]\n        \
                right: [{ id: asks, ask: { title: Well } }]\n  - { id: last, set: 1 }\n";
    let definition =
        backstitch::definition::reload("sim.yaml", yaml).unwrap_or_else(|found| panic!("{}", found[0].message));
    let driver = Driver::of(Arc::new(definition));
    let cancels = |driver: &Driver| {
        let commands = saga::outstanding(&driver.definition, &driver.state);
        let started = commands.iter().filter(|one| matches!(one, saga::Command::StartChild { .. })).count();
        (started, commands.iter().filter(|one| matches!(one, saga::Command::CancelChild { .. })).count())
    };
    assert_eq!(cancels(&driver), (1, 0), "it goes forward");
    let driver = driver.given(Input::Operator(Operation::Cancel { reason: None }));
    assert_eq!(driver.state.state().as_str(), "settling");
    assert_eq!(cancels(&driver), (1, 1), "it settles");
}
