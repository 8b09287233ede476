//! Random sagas with random faults: every seed is one story, every invariant is checked at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::sync::Arc;
use std::time::Instant;

use backstitch::definition::SagaDefinition;
use backstitch::saga::Operation;

use super::invariants::{Evidence, violations};
use super::rng::Rng;
use super::services::Behaviour;
#[cfg(feature = "planted")]
use super::shrink::shrunk;
use super::shrink::{Case, told_small};
use super::spec::{Kind, Spec};
use super::tape::Recorder;
use super::world::{Crash, Plan, World, load, story};
use super::{generate, many, observe::Seen};

/// Runs in an ordinary `cargo test`.
const SEEDS: u64 = 150_000;

/// Faults of one run, in thousandths; drawn per seed so that some runs see one kind and others all.
#[derive(Clone)]
pub struct Chance {
    rng: std::rc::Rc<std::cell::RefCell<Rng>>,
    refuse: u64,
    lose: u64,
    busy: u64,
    late: u64,
    crash: u64,
    operate: u64,
    undo: u64,
    twice: u64,
    /// Undos fail long enough to be exhausted.
    undo_broken: bool,
    crashes_left: u32,
    operations_left: u32,
    remedies_left: u32,
}

impl Chance {
    pub fn draw(mut rng: Rng, faults: bool) -> Self {
        let mut rate = |max: u64| if faults && rng.chance(600) { rng.below(max) } else { 0 };
        let (refuse, lose, busy, late) = (rate(150), rate(300), rate(200), rate(150));
        let (crash, operate, undo, twice) = (rate(120), rate(80), rate(400), rate(100));
        let remedies_left = rng.below(6) as u32;
        let undo_broken = faults && rng.chance(100);
        Self {
            rng: std::rc::Rc::new(std::cell::RefCell::new(rng)),
            refuse,
            lose,
            busy,
            late,
            crash,
            operate,
            undo,
            twice,
            undo_broken,
            crashes_left: 6,
            operations_left: 3,
            remedies_left,
        }
    }

    fn fault(&self, refuse: u64) -> Behaviour {
        let mut rng = self.rng.borrow_mut();
        if rng.chance(refuse) {
            return Behaviour::Refuse;
        }
        if rng.chance(self.lose) {
            return *rng.pick(&[Behaviour::LoseReply, Behaviour::LoseRequest, Behaviour::Error]);
        }
        if rng.chance(self.busy) {
            return Behaviour::Busy;
        }
        if rng.chance(self.late) {
            return Behaviour::Late(rng.below(30_000));
        }
        Behaviour::Ok
    }
}

impl Plan for Chance {
    fn forward(&mut self, _: &str, attempt: u32) -> Behaviour {
        // Faults stop: what is tried forever must come to an end.
        if attempt > 12 { Behaviour::Ok } else { self.fault(self.refuse) }
    }
    fn undo(&mut self, _: &str, attempt: u32) -> Behaviour {
        if self.undo_broken && attempt <= 6 {
            return Behaviour::Error;
        }
        if attempt > 12 || !self.rng.borrow_mut().chance(self.undo) { Behaviour::Ok } else { self.fault(self.refuse) }
    }
    fn check(&mut self, _: &str, attempt: u32) -> Behaviour {
        if attempt > 12 { Behaviour::Ok } else { self.fault(self.refuse / 4) }
    }
    fn crash(&mut self, _: usize) -> Crash {
        if self.crashes_left == 0 || !self.rng.borrow_mut().chance(self.crash) {
            return Crash::No;
        }
        self.crashes_left -= 1;
        if self.rng.borrow_mut().chance(500) { Crash::Lost } else { Crash::Kept }
    }
    fn operate(&mut self, _: &str) -> Option<(u64, Operation)> {
        if self.operations_left == 0 || !self.rng.borrow_mut().chance(self.operate) {
            return None;
        }
        self.operations_left -= 1;
        let mut rng = self.rng.borrow_mut();
        let after = rng.below(2_000);
        let operation = match rng.below(8) {
            0 | 1 => Operation::Cancel { reason: None },
            2 | 3 => Operation::Pause,
            4 => Operation::Resume,
            5 => Operation::Retry { new_key: false },
            6 => Operation::ResolveNotDone,
            _ => Operation::Skip,
        };
        Some((after, operation))
    }
    fn early(&mut self) -> bool {
        self.rng.borrow_mut().chance(50)
    }
    fn twice(&mut self) -> bool {
        self.rng.borrow_mut().chance(self.twice)
    }
    fn parked(&mut self, remedies: &[&str]) -> Option<Operation> {
        if self.remedies_left == 0 || remedies.is_empty() {
            return None;
        }
        self.remedies_left -= 1;
        let mut rng = self.rng.borrow_mut();
        // Sometimes he tries what does not apply.
        let odd = if remedies.contains(&"retry") { 100 } else { 500 };
        let word = if rng.chance(odd) { rng.pick(&["retry", "skip", "cancel"]) } else { rng.pick(remedies) };
        Some(match *word {
            "retry" => Operation::Retry { new_key: false },
            "skip" => Operation::Skip,
            "cancel" => Operation::Cancel { reason: None },
            // A person looks before he says so; the test's person only ever says what is safe.
            _ => Operation::ResolveDone { output: None },
        })
    }
}

struct Outcome {
    violations: Vec<String>,
    seen: Vec<(u64, Seen)>,
    pairs: BTreeSet<(&'static str, &'static str)>,
    events: usize,
    crashes: usize,
    state: String,
}

/// The saga of a seed; [`many::STORIES`] seeds share it.
fn saga(of: u64) -> (Spec, Arc<SagaDefinition>) {
    let spec = generate::spec(&mut Rng::new(of));
    let definition = load(&spec);
    (spec, definition)
}

fn one(seed: u64, faults: bool) -> (Spec, Outcome) {
    let (spec, definition) = saga(seed / many::STORIES);
    let outcome = tell(seed, &spec, definition, faults);
    (spec, outcome)
}

/// Lets a run come to rest and says what is wrong with it.
pub fn examine<P: Plan>(spec: &Spec, world: &mut World<P>) -> Vec<String> {
    let mut found: Vec<String> = world.run().err().into_iter().collect();
    found.extend(violations(&Evidence { spec, seen: &world.seen, services: &world.services }));
    found
}

/// A seed's case: what went wrong is written down by telling it again.
fn case(seed: u64, spec: &Spec, definition: Arc<SagaDefinition>) -> Case<Spec> {
    let chance = Chance::draw(Rng::new(seed ^ 0x6661_756c), true);
    let mut world = World::new(definition, Recorder::new(chance));
    examine(spec, &mut world);
    Case { tree: spec.clone(), tape: world.plan.tape }
}

/// How small the first story becomes that breaks this promise and has more than eight steps: its steps, what
/// goes wrong in it, and how many steps it had.
#[cfg(feature = "planted")]
pub fn small_story(promise: &str, seeds: u64) -> Option<(usize, usize, usize)> {
    (1..=seeds).find_map(|seed| {
        let (spec, definition) = saga(seed / many::STORIES);
        let told = tell(seed, &spec, Arc::clone(&definition), true);
        let before = spec.flat().len();
        if before <= 8 || told.violations.first()?.split_whitespace().next() != Some(promise) {
            return None;
        }
        let small = shrunk(&case(seed, &spec, definition))?;
        Some((small.tree.flat().len(), small.tape.len(), before))
    })
}

fn tell(seed: u64, spec: &Spec, definition: Arc<SagaDefinition>, faults: bool) -> Outcome {
    let mut world = World::new(definition, Chance::draw(Rng::new(seed ^ 0x6661_756c), faults));
    world.careful = seed.is_multiple_of(16);
    let found = examine(spec, &mut world);
    let state = world.state.as_ref().map_or("none", |state| state.state().as_str()).to_owned();
    Outcome {
        events: world.seen.iter().filter(|(_, seen)| !matches!(seen, Seen::State { .. })).count(),
        violations: found,
        pairs: world.pairs,
        seen: world.seen,
        crashes: world.crashes,
        state,
    }
}

/// Runs one seed and returns what was wrong with it.
#[cfg(feature = "planted")]
pub fn found_by(seed: u64) -> Vec<String> {
    one(seed, true).1.violations
}

fn kinds(spec: &Spec) -> BTreeSet<&'static str> {
    spec.flat()
        .iter()
        .map(|(path, step)| match &step.kind {
            Kind::Call(call) if call.pivot => "pivot",
            Kind::Call(_) => "call",
            Kind::Emit { .. } => "emit",
            Kind::Set => "set",
            Kind::Wait(_) => "wait",
            Kind::Switch { .. } if path.matches('/').count() >= 2 => "nested ≥ 3",
            Kind::Switch { .. } => "switch",
            Kind::Skipped => "if",
            Kind::Fail => "fail",
        })
        .collect()
}

/// What many runs amount to.
#[derive(Default)]
struct Tally {
    runs: u64,
    events: usize,
    crashes: usize,
    mix: BTreeMap<&'static str, u64>,
    ends: BTreeMap<String, u64>,
    pairs: BTreeSet<(&'static str, &'static str)>,
}

impl Tally {
    fn add(mut self, other: Self) -> Self {
        self.runs += other.runs;
        self.events += other.events;
        self.crashes += other.crashes;
        self.pairs.extend(other.pairs);
        other.mix.into_iter().for_each(|(kind, times)| *self.mix.entry(kind).or_default() += times);
        other.ends.into_iter().for_each(|(state, times)| *self.ends.entry(state).or_default() += times);
        self
    }
}

#[test]
fn random_runs_keep_every_promise() {
    let only = env::var("SIM_SEED").ok().map(|seed| seed.parse::<u64>().expect("SIM_SEED is a number"));
    let count = env::var("SIM_RUNS").ok().map_or(SEEDS, |runs| runs.parse().expect("SIM_RUNS is a number"));
    let begun = Instant::now();
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    let tallies = many::each(seeds, |of, seeds, tally: &mut Tally| {
        let (spec, definition) = saga(of);
        let kinds = kinds(&spec);
        for seed in seeds {
            let outcome = tell(seed, &spec, Arc::clone(&definition), true);
            if only.is_some() {
                println!("{}\n{}", spec.yaml(), story(&outcome.seen));
            }
            if !outcome.violations.is_empty() {
                return Err(format!(
                    "{}\n{}\n{}\n{}\nrepeat: SIM_SEED={seed} cargo test --test sim random_runs -- --nocapture",
                    outcome.violations.join("\n"),
                    spec.yaml(),
                    story(&outcome.seen),
                    told_small(&case(seed, &spec, Arc::clone(&definition)))
                ));
            }
            tally.runs += 1;
            tally.events += outcome.events;
            tally.crashes += outcome.crashes;
            tally.pairs.extend(outcome.pairs);
            *tally.ends.entry(outcome.state).or_default() += 1;
            kinds.iter().for_each(|kind| *tally.mix.entry(kind).or_default() += 1);
        }
        Ok(())
    });
    let Tally { runs, events, crashes, mix, ends, pairs } = tallies.into_iter().fold(Tally::default(), Tally::add);
    let seconds = begun.elapsed().as_secs_f64();
    let share = |part: &u64| *part as f64 * 100.0 / runs as f64;
    crate::counted::count(&format!(
        "simulation, linear sagas: {runs} runs, {events} events, {crashes} crashes in {seconds:.1} s: {:.0} runs/s; ends {ends:?}; mix {}; {} (state, input) pairs",
        runs as f64 / seconds,
        mix.iter().map(|(kind, times)| format!("{kind} {:.0}%", share(times))).collect::<Vec<_>>().join(", "),
        pairs.len()
    ));
    if only.is_none() {
        for kind in ["call", "emit", "set", "wait", "switch", "if", "fail", "pivot"] {
            let share = share(mix.get(kind).unwrap_or(&0));
            assert!(share >= 5.0, "{kind} occurs in {share:.1}% of runs; the generator has gone narrow");
        }
        for state in ["completed", "compensated", "parked"] {
            assert!(ends.contains_key(state), "no run ended {state}: {ends:?}");
        }
        assert!(crashes > 0, "no crash was drawn");
    }
}

#[test]
fn the_same_seed_is_the_same_story() {
    for seed in 1..200 {
        let (a, b) = (one(seed, true).1, one(seed, true).1);
        assert_eq!((a.seen, a.state, a.events), (b.seen, b.state, b.events), "seed {seed}");
    }
}

/// The control: without faults nothing is ever undone, so the fault tests do test faults.
#[test]
fn without_faults_nothing_but_the_file_makes_a_run_fail() {
    for seed in 1..500 {
        let (spec, outcome) = one(seed, false);
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        assert_eq!(outcome.crashes, 0);
        let may_fail = spec.timeout.is_some() || spec.route().iter().any(|(_, step)| matches!(step.kind, Kind::Fail));
        assert!(may_fail || outcome.state == "completed", "seed {seed} ended {}\n{}", outcome.state, spec.yaml());
    }
}
