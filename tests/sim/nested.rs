//! Random sagas of steps inside steps, with random faults: `parallel`, races, `for`, `try`, `fallback`,
//! `optional`, waits for events, people and children, a pivot at the end. What must follow is worked out in
//! [`promises`] and [`model`] from the drawn tree alone.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::sync::Arc;
use std::time::Instant;

use backstitch::definition::SagaDefinition;

use super::observe::Seen;
use super::random::Chance;
use super::rng::Rng;
use super::shrink::{Case, told_small};
#[cfg(feature = "planted")]
use super::shrink::{retold, shrunk};
use super::spec::{Call, Check, Undo};
use super::tape::{Recorder, Tape};
use super::tree::{Handled, Kind, Node, Tree};
use super::world::{Plan, World, load_file, story};
use super::{many, model, promises};

/// Runs in an ordinary `cargo test`.
const SEEDS: u64 = 60_000;

struct Draw<'r> {
    rng: &'r mut Rng,
    ids: usize,
}

#[derive(Clone, Copy)]
struct Around {
    depth: usize,
    fors: usize,
}

impl Around {
    fn inside(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

impl Draw<'_> {
    fn list(&mut self, around: Around) -> Vec<Node> {
        (0..=self.rng.below(3)).map(|_| self.node(around)).collect()
    }

    fn id(&mut self) -> String {
        self.ids += 1;
        format!("s{}", self.ids)
    }

    fn check(&mut self) -> Check {
        *self.rng.pick(&[Check::Ask, Check::Conclusive, Check::No, Check::No, Check::No, Check::No])
    }

    fn call(&mut self) -> Call {
        Call {
            undo: *self.rng.pick(&[Undo::Call, Undo::Call, Undo::Call, Undo::Call, Undo::Call, Undo::None, Undo::Emit]),
            check: self.check(),
            park_unknown: self.rng.chance(30),
            proof: self.rng.chance(50),
            ..Call::default()
        }
    }

    fn node(&mut self, around: Around) -> Node {
        let id = self.id();
        let inside = around.inside();
        let rounds = 1 + self.rng.below(3) as u32;
        // Whether a failure may be handled here: how seldom, or not at all.
        let (kind, handled) = match if around.depth >= 4 { 0 } else { self.rng.below(20) } {
            7 | 8 => {
                let branches: Vec<_> = (0..2 + self.rng.below(2)).map(|_| self.list(inside)).collect();
                let wanted = if self.rng.chance(350) {
                    1 + self.rng.below(branches.len() as u64 - 1) as usize
                } else {
                    branches.len()
                };
                (Kind::Parallel { branches, wanted, cancel: self.rng.chance(500) }, 5)
            }
            9 | 10 if around.fors < 2 => {
                let (concurrency, tolerate) = (1 + self.rng.below(3), self.rng.below(2) as usize);
                let body = self.list(Around { fors: around.fors + 1, ..inside });
                (Kind::For { concurrency, tolerate, body }, 5)
            }
            11 | 12 => {
                let body = self.list(inside);
                let (keep, never) = (self.rng.chance(400), self.rng.chance(200));
                (Kind::Try { body, keep, never, handler: self.list(inside) }, 5)
            }
            13 => (Kind::Switch(self.list(inside)), 0),
            14 => {
                let on_timeout = self.rng.chance(300).then(|| self.list(inside));
                (Kind::Await { on_timeout }, 8)
            }
            15 => (self.rng.pick(&[Kind::Ask, Kind::Run]).clone(), 8),
            16 => (self.rng.pick(&[Kind::Reply, Kind::Ask, Kind::Run]).clone(), 8),
            17 => (self.rng.pick(&[Kind::Poll(rounds), Kind::Pages(rounds), Kind::Reply]).clone(), 8),
            18 => (self.rng.pick(&[Kind::Emit, Kind::Set, Kind::Poll(rounds), Kind::Pages(rounds)]).clone(), 0),
            19 => (self.rng.pick(&[Kind::Skipped, Kind::Emit]).clone(), 0),
            6 => (Kind::Wait(10 + self.rng.below(3_000)), 0),
            _ => (Kind::Call(self.call()), 8),
        };
        let handled = match if handled == 0 { 9 } else { self.rng.below(handled) } {
            0 => Handled::Optional,
            1 if around.depth < 4 => Handled::Do(self.list(inside)),
            2 => Handled::Value,
            _ => Handled::No,
        };
        Node { id, kind, handled }
    }
}

/// Draws a tree.
pub fn draw(rng: &mut Rng) -> Tree {
    let mut draw = Draw { rng, ids: 0 };
    let timeout = draw.rng.chance(200).then(|| 500 + draw.rng.below(20_000));
    let mut steps = draw.list(Around { depth: 0, fors: 0 });
    let mut last = |id: &str, kind, handled| steps.push(Node { id: id.to_owned(), kind, handled });
    match draw.rng.below(10) {
        // Whatever was done is to be undone.
        0 | 1 => last("stop", Kind::Fail, Handled::No),
        2 => {
            last("point", Kind::Call(Call { pivot: true, check: draw.check(), ..Call::default() }), Handled::No);
            let behind = Call { undo: Undo::Unstated, check: draw.check(), ..Call::default() };
            last("after", Kind::Call(behind), draw.rng.pick(&[Handled::No, Handled::Optional]).clone());
        }
        _ => {}
    }
    let lock = draw.rng.chance(100);
    Tree { timeout, lock, ..Tree::of(steps) }
}

/// Loads a tree as a definition.
///
/// # Errors
/// What the file's findings are.
pub fn load(tree: &Tree) -> Result<Arc<SagaDefinition>, String> {
    load_file(&tree.yaml())
}

/// Lets a run of a tree come to rest and says what is wrong with it.
pub fn examine<P: Plan>(tree: &Tree, world: &mut World<P>) -> Vec<String> {
    let mut wrong: Vec<String> = world.run().err().into_iter().collect();
    let services = &world.services;
    wrong.extend(promises::violations(tree, &world.seen, |path| services.applied(path)));
    wrong.extend(model::differences(tree, &world.seen, |path| services.applied(path)));
    wrong
}

struct Told {
    violations: Vec<String>,
    seen: Vec<(u64, Seen)>,
    tape: Tape,
    state: String,
    crashes: usize,
    pairs: BTreeSet<(&'static str, &'static str)>,
}

pub fn saga(of: u64) -> (Tree, Arc<SagaDefinition>) {
    let tree = draw(&mut Rng::new(of ^ 0x6e65_7374));
    let definition = load(&tree).unwrap_or_else(|why| panic!("saga {of}: {why}"));
    (tree, definition)
}

fn tell(seed: u64, tree: &Tree, definition: Arc<SagaDefinition>, faults: bool) -> Told {
    let chance = Chance::draw(Rng::new(seed ^ 0x6661_756c), faults);
    let mut world = World::new(definition, Recorder::new(chance));
    world.careful = seed.is_multiple_of(32);
    let violations = examine(tree, &mut world);
    let state = world.state.as_ref().map_or("none", |state| state.state().as_str()).to_owned();
    Told { violations, seen: world.seen, tape: world.plan.tape, state, crashes: world.crashes, pairs: world.pairs }
}

/// Runs one seed and returns what was wrong with it; seed 0 stands for what was mended once.
#[cfg(feature = "planted")]
pub fn found_by(seed: u64) -> Vec<String> {
    if seed == 0 {
        return super::regressions::cases().iter().flat_map(|(_, case)| retold(case).1).collect();
    }
    let (tree, definition) = saga(seed / many::STORIES);
    tell(seed, &tree, definition, true).violations
}

/// How small the first story becomes that breaks this promise and has more than eight steps: its steps, what
/// goes wrong in it, and how many steps it had.
#[cfg(feature = "planted")]
pub fn small_story(promise: &str, seeds: u64) -> Option<(usize, usize, usize)> {
    (1..=seeds).find_map(|seed| {
        let (tree, definition) = saga(seed / many::STORIES);
        let told = tell(seed, &tree, definition, true);
        let before = tree.flat().len();
        if before <= 8 || !told.violations.first()?.starts_with(promise) {
            return None;
        }
        let small = shrunk(&Case { tree: tree.clone(), tape: told.tape.clone() })?;
        Some((small.tree.flat().len(), small.tape.len(), before))
    })
}

/// What a broken promise looks like to the one who has to mend it.
fn report(seed: u64, tree: &Tree, told: &Told) -> String {
    format!(
        "seed {seed}\n{}\n{}\n{}\nrepeat it: SIM_SEED={seed} cargo test --test sim nested_runs -- --nocapture",
        tree.yaml(),
        told.violations.join("\n"),
        told_small(&Case { tree: tree.clone(), tape: told.tape.clone() })
    )
}

#[derive(Default)]
struct Tally {
    runs: u64,
    events: usize,
    crashes: usize,
    deep: u64,
    mix: BTreeMap<&'static str, u64>,
    ends: BTreeMap<String, u64>,
    pairs: BTreeSet<(&'static str, &'static str)>,
}

impl Tally {
    fn add(mut self, other: Self) -> Self {
        self.runs += other.runs;
        self.events += other.events;
        self.crashes += other.crashes;
        self.deep += other.deep;
        self.pairs.extend(other.pairs);
        other.mix.into_iter().for_each(|(kind, times)| *self.mix.entry(kind).or_default() += times);
        other.ends.into_iter().for_each(|(state, times)| *self.ends.entry(state).or_default() += times);
        self
    }
}

fn kinds(tree: &Tree) -> BTreeSet<&'static str> {
    let mut kinds: BTreeSet<_> = tree.flat().iter().map(|(_, node)| node.kind.word()).collect();
    for (_, node) in tree.flat() {
        kinds.insert(match node.handled {
            Handled::No => continue,
            Handled::Optional => "optional",
            Handled::Value | Handled::Do(_) => "fallback",
        });
    }
    kinds
}

/// What a run shows, and what can be given to it.
const STATES: &[&str] =
    &["running", "waiting", "paused", "settling", "compensating", "parked", "completed", "compensated"];
const INPUTS: &[&str] = &[
    "continue",
    "attempt_ended",
    "check_ended",
    "undo_ended",
    "timer",
    "deadline",
    "event",
    "child",
    "lock",
    "restarted",
    "cancel",
    "pause",
    "resume",
    "retry",
    "skip",
    "resolve",
    "answer",
];

/// Pairs that cannot be met, and why.
fn impossible(state: &str, input: &str) -> Option<&'static str> {
    match (state, input) {
        ("running" | "settling" | "compensating" | "parked" | "completed", "lock") => {
            Some("nothing has begun before the lock is there")
        }
        ("waiting", "child") => Some("a run whose child runs is running"),
        ("completed" | "compensated", "child") => Some("a run ends when its children have"),
        _ => None,
    }
}

/// Says which pairs are not met though they could be, and the other way round.
fn amiss(pairs: &BTreeSet<(&'static str, &'static str)>) -> Vec<String> {
    let mut wrong = Vec::new();
    for state in STATES {
        for input in INPUTS {
            match (pairs.contains(&(*state, *input)), impossible(state, input)) {
                (true, Some(why)) => wrong.push(format!("{state} × {input} is met, though {why}")),
                (false, None) => wrong.push(format!("{state} × {input} is never met")),
                (true, None) | (false, Some(_)) => {}
            }
        }
    }
    wrong
}

#[test]
fn nested_runs_keep_every_promise() {
    let only = env::var("SIM_SEED").ok().map(|seed| seed.parse::<u64>().expect("SIM_SEED is a number"));
    let count = env::var("SIM_NESTED_RUNS").ok().map_or(SEEDS, |runs| runs.parse().expect("a number"));
    let begun = Instant::now();
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    let tallies = many::each(seeds, |of, seeds, tally: &mut Tally| {
        let (tree, definition) = saga(of);
        let kinds = kinds(&tree);
        let deep = tree.flat().iter().any(|(depth, _)| *depth >= 3);
        for seed in seeds {
            let told = tell(seed, &tree, Arc::clone(&definition), true);
            if only.is_some() {
                println!("{}\n{}", tree.yaml(), story(&told.seen));
            }
            if !told.violations.is_empty() {
                return Err(report(seed, &tree, &told));
            }
            tally.runs += 1;
            tally.events += told.seen.len();
            tally.crashes += told.crashes;
            tally.deep += u64::from(deep);
            tally.pairs.extend(told.pairs);
            *tally.ends.entry(told.state).or_default() += 1;
            kinds.iter().for_each(|kind| *tally.mix.entry(kind).or_default() += 1);
        }
        Ok(())
    });
    let Tally { runs, events, crashes, deep, mix, ends, pairs } =
        tallies.into_iter().fold(Tally::default(), Tally::add);
    let seconds = begun.elapsed().as_secs_f64();
    let share = |part: u64| part as f64 * 100.0 / runs as f64;
    crate::counted::count(&format!(
        "simulation, nested sagas: {runs} runs, {events} events, {crashes} crashes in {seconds:.1} s: {:.0} runs/s; ends {ends:?}; mix {}, three deep {:.0}%; {} (state, input) pairs",
        runs as f64 / seconds,
        mix.iter().map(|(kind, times)| format!("{kind} {:.0}%", share(*times))).collect::<Vec<_>>().join(", "),
        share(deep),
        pairs.len()
    ));
    if only.is_none() {
        let amiss = amiss(&pairs);
        assert!(amiss.is_empty(), "{}", amiss.join("\n"));
        assert!(share(deep) >= 5.0, "three deep only in {:.1}%", share(deep));
        for kind in [
            "call", "pivot", "emit", "reply", "await", "ask", "wait", "set", "if", "switch", "parallel", "race", "for",
            "try", "poll", "pages", "run", "fail", "optional", "fallback",
        ] {
            let share = share(mix.get(kind).copied().unwrap_or_default());
            assert!(share >= 5.0, "{kind} occurs in {share:.1}% of runs; the generator has gone narrow");
        }
        for state in ["completed", "compensated", "parked"] {
            assert!(ends.contains_key(state), "no run ended {state}: {ends:?}");
        }
    }
}

/// The control: without faults nothing but the file makes a run fail, and what the fault tests ask for is not
/// there.
#[test]
fn nested_runs_without_faults_end_as_the_file_says() {
    let mut pairs = BTreeSet::new();
    for seed in 0..500 * many::STORIES {
        if seed % many::STORIES != 0 {
            continue;
        }
        let (tree, definition) = saga(seed / many::STORIES);
        let told = tell(seed, &tree, definition, false);
        assert!(told.violations.is_empty(), "{}", report(seed, &tree, &told));
        assert_eq!(told.crashes, 0);
        pairs.extend(told.pairs.iter().copied());
        let fails = tree.timeout.is_some() || kinds(&tree).contains("fail");
        assert!(
            fails || told.state == "completed",
            "seed {seed} is {}\n{}\n{}",
            told.state,
            tree.yaml(),
            story(&told.seen)
        );
    }
    let amiss = amiss(&pairs);
    for input in ["restarted", "check_ended", "cancel", "resolve"] {
        assert!(
            amiss.iter().any(|one| one.ends_with(&format!("{input} is never met"))),
            "{input} is met without a fault"
        );
    }
}
