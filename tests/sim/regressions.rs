//! Stories that broke a promise once, made small, and one that chance seldom tells: they are told before any
//! drawn one.

use backstitch::saga::Operation;

use super::services::Behaviour;
use super::shrink::Case;
use super::shrink::retold;
use super::spec::Call;
use super::tape::Thing;
use super::tree::{Kind, Tree, node};
use super::world::Crash;

fn beside(branches: &[Kind], wanted: usize) -> Tree {
    let branches = branches.iter().zip(["a", "b", "c"]).map(|(kind, id)| vec![node(id, kind.clone())]).collect();
    Tree::of(vec![node("both", Kind::Parallel { branches, wanted, cancel: false })])
}

pub fn cases() -> Vec<(&'static str, Case)> {
    let call = Kind::Call(Call::default());
    let lost = |path: &str| Thing::Fault(("forward", path.to_owned(), 0), Behaviour::LoseRequest);
    let refused = |path: &str| Thing::Fault(("forward", path.to_owned(), 0), Behaviour::Refuse);
    vec![
        (
            "two branches of a race end while the run is paused: only one of them wins, the other is undone",
            Case { tree: beside(&[call.clone(), call.clone()], 1), tape: vec![Thing::Operate(0, 5, Operation::Pause)] },
        ),
        (
            "branches that have nothing to wait for end in one move: only one of them wins",
            Case { tree: beside(&[Kind::Set, call.clone(), call.clone()], 1), tape: Vec::new() },
        ),
        (
            "a paused run parks: what an operator does about it is done, and does not wait for a resume",
            Case {
                tree: Tree::of(vec![node("a", call.clone()), node("stop", Kind::Fail)]),
                tape: (0..4)
                    .map(|time| Thing::Fault(("undo", "a".to_owned(), time), Behaviour::LoseRequest))
                    .chain([
                        Thing::Operate(7, 5, Operation::Pause),
                        Thing::Parked(0, Operation::Retry { new_key: false }),
                    ])
                    .collect(),
            },
        ),
        (
            "an operator repeats two commands at once: each event has a place of its own in the outbox",
            Case {
                tree: beside(&[Kind::Reply, Kind::Reply], 2),
                tape: vec![
                    lost("both/a"),
                    lost("both/b"),
                    Thing::Operate(0, 1_050, Operation::Retry { new_key: false }),
                ],
            },
        ),
        (
            "a child beside what fails is asked to end",
            Case { tree: beside(&[Kind::Run, call.clone()], 2), tape: vec![refused("both/b")] },
        ),
        (
            "the process dies while a child is asked to end: it is asked again, and does not run on",
            Case { tree: beside(&[Kind::Run, call], 2), tape: vec![refused("both/b"), Thing::Crash(2, Crash::Kept)] },
        ),
    ]
}

#[test]
fn what_was_mended_stays_mended() {
    for (why, case) in cases() {
        let (story, found) = retold(&case);
        assert!(found.is_empty(), "{why}\n{case}\n{story}\n{}", found.join("\n"));
        if case.tape.iter().any(|thing| matches!(thing, Thing::Operate(..))) {
            assert!(story.contains("operator: "), "{why}: the operator's command was not taken\n{story}");
        }
    }
}
