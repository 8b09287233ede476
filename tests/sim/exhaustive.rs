//! Small sagas with every kind of step: every single fault, every pair of faults, and a crash at every commit
//! of each, its records lost or kept. `make exhaustive` adds the crashes to every pair.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use backstitch::definition::SagaDefinition;
use backstitch::saga::Operation;

use super::nested::{examine, load};
use super::services::Behaviour;
use super::shrink::{Case, told_small};
use super::spec::{Call, Check, Undo};
use super::tape::{Replay, Tape, Thing};
use super::tree::{Handled, Kind, Node, Tree, node};
use super::world::{Crash, EPOCH_MS, World};

/// Of how many pairs of faults one is crashed at every commit in an ordinary `cargo test`.
const PAIRS_PER_CRASHED: usize = 96;
/// As often as anything is tried here.
const FOR_EVER: u32 = 6;

fn call(id: &str) -> Node {
    node(id, Kind::Call(Call::default()))
}

fn call_with(id: &str, change: impl FnOnce(&mut Call)) -> Node {
    let mut call = Call::default();
    change(&mut call);
    node(id, Kind::Call(call))
}

fn handled(mut node: Node, handled: Handled) -> Node {
    node.handled = handled;
    node
}

fn parallel(branches: Vec<Vec<Node>>, wanted: usize, cancel: bool) -> Node {
    node("side", Kind::Parallel { branches, wanted, cancel })
}

fn each(concurrency: u64, tolerate: usize) -> Node {
    node("each", Kind::For { concurrency, tolerate, body: vec![call("x")] })
}

fn try_of(body: Vec<Node>, keep: bool, never: bool) -> Node {
    node("tried", Kind::Try { body, keep, never, handler: vec![call("h")] })
}

/// Sagas of up to four steps; what stands in the middle is what each is about.
fn sagas() -> Vec<(&'static str, Tree)> {
    let between = |middle: Node| vec![call("a"), middle, call("z")];
    let behind = |middle: Node| vec![call("a"), middle];
    let after = |change: fn(&mut Call)| {
        call_with("after", |call| {
            call.undo = Undo::Unstated;
            change(call);
        })
    };
    let sagas = vec![
        ("call", vec![call("a"), call("b"), call("c"), call("d")]),
        ("check", between(call_with("b", |call| call.check = Check::Ask))),
        ("conclusive check", between(call_with("b", |call| call.check = Check::Conclusive))),
        ("nothing to undo", between(call_with("b", |call| call.undo = Undo::None))),
        ("undone by an event", between(call_with("b", |call| call.undo = Undo::Emit))),
        ("unknown parks", between(call_with("b", |call| call.park_unknown = true))),
        ("proof", between(call_with("b", |call| call.proof = true))),
        ("optional", between(handled(call("b"), Handled::Optional))),
        ("optional and checked", between(handled(call_with("b", |call| call.check = Check::Ask), Handled::Optional))),
        ("fallback value", between(handled(call("b"), Handled::Value))),
        ("fallback", between(handled(call("b"), Handled::Do(vec![call("f")])))),
        ("pivot", vec![call("a"), call_with("point", |call| call.pivot = true), after(|_| {})]),
        (
            "checked pivot",
            vec![
                call("a"),
                call_with("point", |call| (call.pivot, call.check) = (true, Check::Ask)),
                handled(after(|call| call.check = Check::Conclusive), Handled::Optional),
            ],
        ),
        ("last without undo", vec![call("a"), call("b"), after(|_| {})]),
        ("emit", between(node("tell", Kind::Emit))),
        ("emit with reply", between(node("command", Kind::Reply))),
        ("optional reply", between(handled(node("command", Kind::Reply), Handled::Optional))),
        ("await", between(node("come", Kind::Await { on_timeout: None }))),
        ("await or else", between(node("come", Kind::Await { on_timeout: Some(vec![call("t")]) }))),
        ("ask", between(node("person", Kind::Ask))),
        ("wait and set", vec![call("a"), node("sleep", Kind::Wait(500)), node("note", Kind::Set), call("z")]),
        ("skipped", between(node("gone", Kind::Skipped))),
        ("fail", vec![call("a"), call("b"), node("stop", Kind::Fail)]),
        ("switch", between(node("way", Kind::Switch(vec![call("x")])))),
        ("poll", between(node("ready", Kind::Poll(2)))),
        ("pages", between(node("list", Kind::Pages(2)))),
        ("child", between(node("child", Kind::Run))),
        ("parallel", behind(parallel(vec![vec![call("x")], vec![call("y")]], 2, false))),
        ("parallel, cancel", behind(parallel(vec![vec![call("x")], vec![call("y")]], 2, true))),
        (
            "optional parallel",
            behind(handled(parallel(vec![vec![call("x")], vec![call("y")]], 2, false), Handled::Optional)),
        ),
        ("race", behind(parallel(vec![vec![call("x")], vec![call("y")]], 1, false))),
        ("two of three", vec![parallel(vec![vec![call("x")], vec![call("y")], vec![node("u", Kind::Ask)]], 2, false)]),
        ("for", behind(each(1, 0))),
        ("for, side by side", behind(each(2, 1))),
        ("try", behind(try_of(vec![call("x"), call("y")], false, false))),
        ("try, keep", behind(try_of(vec![call("x"), call("y")], true, false))),
        ("try, not caught", vec![try_of(vec![call("x"), call("y")], false, true)]),
        (
            "try in a branch",
            vec![parallel(vec![vec![try_of(vec![call("x")], false, false)], vec![call("y")]], 2, true)],
        ),
    ];
    sagas.into_iter().map(|(name, steps)| (name, Tree { attempts: 2, ..Tree::of(steps) })).collect()
}

/// A fault: one thing, or the same thing as often as it is tried.
type Fault = Vec<Thing>;

#[derive(Default)]
struct Counts {
    runs: usize,
    crash_points: usize,
    singles: usize,
    pairs: usize,
    crashed_pairs: usize,
    deadlines: usize,
    remedies: usize,
}

struct Looked {
    faults: Vec<Fault>,
    commits: usize,
    times: Vec<u64>,
    parked: bool,
}

struct Search<'a> {
    name: &'a str,
    tree: Tree,
    definition: Arc<SagaDefinition>,
    counts: Counts,
    all: bool,
}

impl Search<'_> {
    /// Tells one story and says what else can go wrong in it.
    fn tell(&mut self, tape: Tape) -> Looked {
        self.counts.runs += 1;
        let mut world = World::new(Arc::clone(&self.definition), Replay::new(tape.clone()));
        world.careful = false;
        let found = examine(&self.tree, &mut world);
        if !found.is_empty() {
            let case = Case { tree: self.tree.clone(), tape };
            panic!("{}: {}\n{case}\n{}", self.name, found.join("\n"), told_small(&case));
        }
        let mut faults: Vec<Fault> = Vec::new();
        for place in &world.plan.asked {
            let once = |fault| vec![Thing::Fault(place.clone(), fault)];
            let ever = |fault| -> Fault {
                (place.2..place.2 + FOR_EVER).map(|n| Thing::Fault((place.0, place.1.clone(), n), fault)).collect()
            };
            for fault in [Behaviour::LoseRequest, Behaviour::LoseReply, Behaviour::Busy, Behaviour::Error] {
                faults.push(once(fault));
                faults.push(ever(fault));
            }
            faults.push(once(Behaviour::Refuse));
            faults.push(ever(Behaviour::Refuse));
            faults.push(once(Behaviour::Late(5)));
            faults.push(ever(Behaviour::Late(60_000)));
        }
        let plan = &world.plan;
        faults.extend((0..plan.answers()).map(|at| vec![Thing::Twice(at)]));
        faults.extend((0..plan.timers()).map(|at| vec![Thing::Early(at)]));
        for after in [0, 5] {
            faults.extend(
                (0..plan.looks()).map(|at| vec![Thing::Operate(at, after, Operation::Cancel { reason: None })]),
            );
        }
        faults.extend((0..plan.looks()).map(|at| vec![Thing::Operate(at, 5, Operation::Pause)]));
        let mut times: Vec<u64> = world.seen.iter().map(|(at, _)| at - EPOCH_MS + 1).collect();
        times.dedup();
        let parked = world.state.as_ref().is_some_and(|state| state.parked.is_some());
        Looked { faults, commits: world.commits, times, parked }
    }

    /// A crash at each commit of a story, the start's apart.
    fn crash_everywhere(&mut self, tape: &Tape, commits: usize) {
        for commit in 2..=commits {
            for crash in [Crash::Lost, Crash::Kept] {
                self.counts.crash_points += 1;
                self.tell([tape.as_slice(), &[Thing::Crash(commit, crash)]].concat());
            }
        }
    }

    /// What a person may do about a run that is parked.
    fn remedies(&mut self, tape: &Tape, known: &[Operation]) {
        for operation in known.iter().cloned() {
            self.counts.remedies += 1;
            self.tell([tape.as_slice(), &[Thing::Parked(0, operation)]].concat());
        }
    }

    fn everything(&mut self) {
        let whole = self.tell(Tape::new());
        self.crash_everywhere(&Tape::new(), whole.commits);
        let mut pairs_told = HashSet::new();
        for single in &whole.faults {
            self.counts.singles += 1;
            let looked = self.tell(single.clone());
            self.crash_everywhere(single, looked.commits);
            if looked.parked {
                let known = [
                    Operation::Retry { new_key: false },
                    Operation::Skip,
                    Operation::Cancel { reason: None },
                    Operation::ResolveDone { output: None },
                    Operation::ResolveNotDone,
                ];
                self.remedies(single, &known);
            }
            for second in looked.faults {
                let pair: Tape = [single.as_slice(), &second].concat();
                if second.iter().any(|thing| single.contains(thing)) || !pairs_told.insert(hash(&pair)) {
                    continue;
                }
                self.counts.pairs += 1;
                let looked = self.tell(pair.clone());
                if looked.parked {
                    self.remedies(&pair, &[Operation::Retry { new_key: false }]);
                }
                if self.all || self.counts.pairs.is_multiple_of(PAIRS_PER_CRASHED) {
                    self.counts.crashed_pairs += 1;
                    self.crash_everywhere(&pair, looked.commits);
                }
            }
        }
        // The time is over at each moment at which something happened, beside each single fault.
        for timeout in whole.times {
            let tree = Tree { timeout: Some(timeout), ..self.tree.clone() };
            self.definition = load(&tree).unwrap_or_else(|why| panic!("{}: {why}", self.name));
            self.tree = tree;
            for single in [Tape::new()].iter().chain(&whole.faults) {
                self.counts.deadlines += 1;
                self.tell(single.clone());
            }
        }
    }
}

/// Of the things, whatever their order.
fn hash(tape: &Tape) -> u64 {
    let mut words: Vec<String> = tape.iter().map(|thing| format!("{thing:?}")).collect();
    words.sort();
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn every_fault_and_every_pair_at_every_place() {
    let all = std::env::var("SIM_EXHAUSTIVE").is_ok_and(|wanted| wanted == "all");
    let only = std::env::var("SIM_SAGA").ok();
    let begun = Instant::now();
    let mut sagas = sagas();
    sagas.retain(|(name, _)| only.as_deref().is_none_or(|only| only == *name));
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        let mut done = Vec::new();
        while let Some((name, tree)) = sagas.get(next.fetch_add(1, Ordering::Relaxed)) {
            let definition = load(tree).unwrap_or_else(|why| panic!("{name}: {why}"));
            let mut search = Search { name, tree: tree.clone(), definition, counts: Counts::default(), all };
            search.everything();
            done.push((*name, search.counts));
        }
        done
    };
    let done: Vec<(&str, Counts)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("told above")).collect()
    });
    for (name, counts) in &done {
        println!("{name:22} {:6} runs, {:4} faults, {:6} pairs", counts.runs, counts.singles, counts.pairs);
    }
    let sum = |of: fn(&Counts) -> usize| done.iter().map(|(_, counts)| of(counts)).sum::<usize>();
    crate::counted::count(&format!(
        "simulation, exhaustive: {} sagas, {} faults, {} pairs of faults ({} of them with every crash), {} crash points, {} deadlines, {} remedies: {} runs in {:.1} s",
        done.len(),
        sum(|counts| counts.singles),
        sum(|counts| counts.pairs),
        sum(|counts| counts.crashed_pairs),
        sum(|counts| counts.crash_points),
        sum(|counts| counts.deadlines),
        sum(|counts| counts.remedies),
        sum(|counts| counts.runs),
        begun.elapsed().as_secs_f64()
    ));
}
