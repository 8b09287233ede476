//! What chance decided in one story, so that it can be told again with less of it.

use std::collections::BTreeMap;
use std::fmt;

use backstitch::saga::Operation;

use super::services::Behaviour;
use super::world::{Crash, Plan};

/// `forward`, `undo` or `check`, the path, and how often that was asked for before.
pub type Place = (&'static str, String, u32);

/// One thing that goes wrong, and where: counted from 0 among all places of its kind, commits from 1.
#[derive(Debug, Clone, PartialEq)]
pub enum Thing {
    Fault(Place, Behaviour),
    Crash(usize, Crash),
    /// An operator acts so many milliseconds after a commit.
    Operate(usize, u64, Operation),
    /// A timer fires early.
    Early(usize),
    /// An answer comes twice.
    Twice(usize),
    /// What an operator does about a parked run.
    Parked(usize, Operation),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault((direction, path, before), fault) => {
                write!(f, "{direction} call of {path}, time {}: {fault:?}", before + 1)
            }
            Self::Crash(at, Crash::Lost) => write!(f, "crash at commit {at}, its records are lost"),
            Self::Crash(at, _) => write!(f, "crash at commit {at}, its records stand"),
            Self::Operate(at, after, what) => write!(f, "{} {after} ms after commit {}", what.as_str(), at + 1),
            Self::Early(at) => write!(f, "timer {} fires early", at + 1),
            Self::Twice(at) => write!(f, "answer {} comes twice", at + 1),
            Self::Parked(_, what) => write!(f, "when parked: {}", what.as_str()),
        }
    }
}

pub type Tape = Vec<Thing>;

/// Counts what was asked for.
#[derive(Default)]
struct Counters {
    asked: BTreeMap<(&'static str, String), u32>,
    operate: usize,
    early: usize,
    twice: usize,
    parked: usize,
}

impl Counters {
    fn asked(&mut self, direction: &'static str, path: &str) -> Place {
        let times = self.asked.entry((direction, path.to_owned())).or_default();
        *times += 1;
        (direction, path.to_owned(), *times - 1)
    }
}

fn next(counter: &mut usize) -> usize {
    *counter += 1;
    *counter - 1
}

/// Listens to a plan and writes down what it decides.
pub struct Recorder<P> {
    plan: P,
    counters: Counters,
    pub tape: Tape,
}

impl<P: Plan> Recorder<P> {
    pub fn new(plan: P) -> Self {
        Self { plan, counters: Counters::default(), tape: Tape::new() }
    }

    fn note(&mut self, direction: &'static str, path: &str, behaviour: Behaviour) -> Behaviour {
        let place = self.counters.asked(direction, path);
        if behaviour != Behaviour::Ok {
            self.tape.push(Thing::Fault(place, behaviour));
        }
        behaviour
    }
}

impl<P: Plan> Plan for Recorder<P> {
    fn forward(&mut self, path: &str, attempt: u32) -> Behaviour {
        let behaviour = self.plan.forward(path, attempt);
        self.note("forward", path, behaviour)
    }
    fn undo(&mut self, path: &str, attempt: u32) -> Behaviour {
        let behaviour = self.plan.undo(path, attempt);
        self.note("undo", path, behaviour)
    }
    fn check(&mut self, path: &str, attempt: u32) -> Behaviour {
        let behaviour = self.plan.check(path, attempt);
        self.note("check", path, behaviour)
    }
    fn crash(&mut self, commit: usize) -> Crash {
        let crash = self.plan.crash(commit);
        if crash != Crash::No {
            self.tape.push(Thing::Crash(commit, crash));
        }
        crash
    }
    fn operate(&mut self, state: &str) -> Option<(u64, Operation)> {
        let at = next(&mut self.counters.operate);
        let (after, operation) = self.plan.operate(state)?;
        self.tape.push(Thing::Operate(at, after, operation.clone()));
        Some((after, operation))
    }
    fn early(&mut self) -> bool {
        let at = next(&mut self.counters.early);
        let early = self.plan.early();
        self.tape.extend(early.then_some(Thing::Early(at)));
        early
    }
    fn twice(&mut self) -> bool {
        let at = next(&mut self.counters.twice);
        let twice = self.plan.twice();
        self.tape.extend(twice.then_some(Thing::Twice(at)));
        twice
    }
    fn parked(&mut self, remedies: &[&str]) -> Option<Operation> {
        let at = next(&mut self.counters.parked);
        let operation = self.plan.parked(remedies)?;
        self.tape.push(Thing::Parked(at, operation.clone()));
        Some(operation)
    }
}

/// A plan that does what a tape says and nothing else.
pub struct Replay {
    tape: Tape,
    counters: Counters,
    /// Asked for, in order: where faults can be put.
    pub asked: Vec<Place>,
}

impl Replay {
    pub fn new(tape: Tape) -> Self {
        Self { tape, counters: Counters::default(), asked: Vec::new() }
    }

    /// How many answers came.
    pub fn answers(&self) -> usize {
        self.counters.twice
    }

    /// How many timers were set.
    pub fn timers(&self) -> usize {
        self.counters.early
    }

    /// How many commits an operator could see.
    pub fn looks(&self) -> usize {
        self.counters.operate
    }

    fn look(&mut self, direction: &'static str, path: &str) -> Behaviour {
        let here = self.counters.asked(direction, path);
        let behaviour = self.tape.iter().find_map(|thing| match thing {
            Thing::Fault(place, behaviour) if *place == here => Some(*behaviour),
            _ => None,
        });
        self.asked.push(here);
        behaviour.unwrap_or(Behaviour::Ok)
    }
}

impl Plan for Replay {
    fn forward(&mut self, path: &str, _: u32) -> Behaviour {
        self.look("forward", path)
    }
    fn undo(&mut self, path: &str, _: u32) -> Behaviour {
        self.look("undo", path)
    }
    fn check(&mut self, path: &str, _: u32) -> Behaviour {
        self.look("check", path)
    }
    fn crash(&mut self, commit: usize) -> Crash {
        let here = |thing: &Thing| match thing {
            Thing::Crash(at, crash) if *at == commit => Some(*crash),
            _ => None,
        };
        self.tape.iter().find_map(here).unwrap_or(Crash::No)
    }
    fn operate(&mut self, _: &str) -> Option<(u64, Operation)> {
        let here = next(&mut self.counters.operate);
        self.tape.iter().find_map(|thing| match thing {
            Thing::Operate(at, after, operation) if *at == here => Some((*after, operation.clone())),
            _ => None,
        })
    }
    fn early(&mut self) -> bool {
        let here = next(&mut self.counters.early);
        self.tape.contains(&Thing::Early(here))
    }
    fn twice(&mut self) -> bool {
        let here = next(&mut self.counters.twice);
        self.tape.contains(&Thing::Twice(here))
    }
    fn parked(&mut self, _: &[&str]) -> Option<Operation> {
        let here = next(&mut self.counters.parked);
        self.tape.iter().find_map(|thing| match thing {
            Thing::Parked(at, operation) if *at == here => Some(operation.clone()),
            _ => None,
        })
    }
}
