//! Makes a story that breaks a promise smaller, until nothing can be left out: what went wrong, then steps,
//! then what a step says beside what it does.

use std::fmt;

use super::spec::{Call, Kind as SpecKind, Spec, Step};
use super::tape::{Replay, Tape};
use super::tree::{Handled, Kind, Node, Tree};
use super::world::{Plan, World, load_file};
use super::{nested, random};

/// Runs that a shrinking may take: some seconds.
const TRIES: usize = 3_000;

/// A drawn saga, whose run can be looked at, and that can say less.
pub trait Drawn: Clone {
    fn file(&self) -> String;
    /// Lets a run of it come to rest and says what is wrong with it.
    fn examine<P: Plan>(&self, world: &mut World<P>) -> Vec<String>;
    /// Every saga that is smaller by one thing, what makes it smallest first.
    fn smaller(&self) -> Vec<Self>;
}

/// A saga, and what goes wrong in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Case<S = Tree> {
    pub tree: S,
    pub tape: Tape,
}

impl<S: Drawn> fmt::Display for Case<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.tree.file())?;
        self.tape.iter().try_for_each(|thing| writeln!(f, "- {thing}"))
    }
}

/// The promise that a finding names: its first word.
fn promise(finding: &str) -> &str {
    finding.split_whitespace().next().unwrap_or_default()
}

/// The smallest case that breaks the same promise as the first finding of `case`; none when `case` itself
/// breaks none. `found` gives the findings of a case, or none when its file does not load.
pub fn smallest<S: Drawn>(case: Case<S>, found: impl Fn(&Case<S>) -> Option<Vec<String>>) -> Option<Case<S>> {
    let wanted = promise(found(&case)?.first()?).to_owned();
    let bites =
        |case: &Case<S>| found(case).is_some_and(|findings| findings.iter().any(|finding| promise(finding) == wanted));
    let mut best = case;
    let mut tries = 0;
    loop {
        let next = smaller(&best)
            .into_iter()
            .take_while(|_| {
                tries += 1;
                tries <= TRIES
            })
            .find(&bites);
        match next {
            Some(next) => best = next,
            None => return Some(best),
        }
    }
}

/// The same promise broken by less.
pub fn shrunk<S: Drawn>(case: &Case<S>) -> Option<Case<S>> {
    smallest(case.clone(), |case| {
        let definition = load_file(&case.tree.file()).ok()?;
        let mut world = World::new(definition, Replay::new(case.tape.clone()));
        world.careful = false;
        Some(case.tree.examine(&mut world))
    })
}

/// The story of a case, and what is wrong with it.
pub fn retold<S: Drawn>(case: &Case<S>) -> (String, Vec<String>) {
    let definition = load_file(&case.tree.file()).expect("it has loaded before");
    let mut world = World::new(definition, Replay::new(case.tape.clone()));
    let found = case.tree.examine(&mut world);
    (world.story(), found)
}

/// The smallest case that breaks the same promise, and its story.
pub fn told_small<S: Drawn>(case: &Case<S>) -> String {
    match shrunk(case) {
        Some(small) => {
            let (story, found) = retold(&small);
            format!("\nsmaller:\n{small}\n{story}\n{}", found.join("\n"))
        }
        None => "\nit does not come again from what was written down".to_owned(),
    }
}

/// Every case that is smaller by one thing, what makes it smallest first.
fn smaller<S: Drawn>(case: &Case<S>) -> Vec<Case<S>> {
    let mut cases: Vec<Case<S>> =
        case.tree.smaller().into_iter().map(|tree| Case { tree, tape: case.tape.clone() }).collect();
    for at in 0..case.tape.len() {
        let mut tape = case.tape.clone();
        tape.remove(at);
        cases.push(Case { tree: case.tree.clone(), tape });
    }
    cases
}

impl Drawn for Tree {
    fn file(&self) -> String {
        self.yaml()
    }

    fn examine<P: Plan>(&self, world: &mut World<P>) -> Vec<String> {
        nested::examine(self, world)
    }

    fn smaller(&self) -> Vec<Self> {
        let mut trees: Vec<Self> = Vec::new();
        if self.timeout.is_some() {
            trees.push(Self { timeout: None, ..self.clone() });
        }
        if self.lock {
            trees.push(Self { lock: false, ..self.clone() });
        }
        trees.extend(lists(&self.steps).into_iter().map(|steps| Self { steps, ..self.clone() }));
        trees
    }
}

impl Drawn for Spec {
    fn file(&self) -> String {
        self.yaml()
    }

    fn examine<P: Plan>(&self, world: &mut World<P>) -> Vec<String> {
        random::examine(self, world)
    }

    fn smaller(&self) -> Vec<Self> {
        let mut specs: Vec<Self> = Vec::new();
        if self.timeout.is_some() {
            specs.push(Self { timeout: None, ..self.clone() });
        }
        if self.lock {
            specs.push(Self { lock: false, ..self.clone() });
        }
        if self.finally {
            specs.push(Self { finally: false, ..self.clone() });
        }
        specs.extend(step_lists(&self.steps).into_iter().map(|steps| Self { steps, ..self.clone() }));
        specs
    }
}

/// Every list of a saga in a line that is smaller by one thing.
fn step_lists(list: &[Step]) -> Vec<Vec<Step>> {
    let with = |at: usize, put: &[Step]| [&list[..at], put, &list[at + 1..]].concat();
    let mut out = Vec::new();
    for (at, step) in list.iter().enumerate() {
        if list.len() > 1 {
            out.push(with(at, &[]));
        }
        match &step.kind {
            SpecKind::Switch { arms, taken } => {
                out.extend(arms.get(*taken).map(|arm| with(at, arm)));
                for (which, arm) in arms.iter().enumerate() {
                    for smaller in step_lists(arm) {
                        let mut arms = arms.clone();
                        arms[which] = smaller;
                        let kind = SpecKind::Switch { arms, taken: *taken };
                        out.push(with(at, &[Step { kind, ..step.clone() }]));
                    }
                }
            }
            SpecKind::Call(call) => {
                let plain = Call { undo: call.undo, pivot: call.pivot, ..Call::default() };
                if plain != *call {
                    out.push(with(at, &[Step { kind: SpecKind::Call(plain), ..step.clone() }]));
                }
            }
            SpecKind::Emit { .. } | SpecKind::Set | SpecKind::Wait(_) | SpecKind::Skipped | SpecKind::Fail => {}
        }
    }
    out
}

/// Every list that is smaller by one thing. A list is never empty.
fn lists(list: &[Node]) -> Vec<Vec<Node>> {
    let with = |at: usize, put: &[Node]| [&list[..at], put, &list[at + 1..]].concat();
    let mut out = Vec::new();
    for (at, node) in list.iter().enumerate() {
        if list.len() > 1 {
            out.push(with(at, &[]));
        }
        out.extend(node.kind.lists().into_iter().map(|inner| with(at, inner)));
        if let Handled::Do(inner) = &node.handled {
            out.push(with(at, inner));
        }
    }
    for (at, node) in list.iter().enumerate() {
        out.extend(nodes(node).into_iter().map(|node| with(at, &[node])));
    }
    out
}

/// Every step that says less.
fn nodes(node: &Node) -> Vec<Node> {
    let mut out = Vec::new();
    match &node.handled {
        Handled::No => {}
        Handled::Optional | Handled::Value => out.push(Node { handled: Handled::No, ..node.clone() }),
        Handled::Do(list) => {
            out.push(Node { handled: Handled::No, ..node.clone() });
            out.push(Node { handled: Handled::Optional, ..node.clone() });
            out.extend(lists(list).into_iter().map(|list| Node { handled: Handled::Do(list), ..node.clone() }));
        }
    }
    if let Kind::Parallel { branches, wanted, cancel } = &node.kind
        && branches.len() > 2
    {
        for at in 0..branches.len() {
            let mut branches = branches.clone();
            branches.remove(at);
            let kind = Kind::Parallel { wanted: (*wanted).min(branches.len()), branches, cancel: *cancel };
            out.push(Node { kind, ..node.clone() });
        }
    }
    if let Kind::Call(call) = &node.kind {
        let plain = Call { undo: call.undo, pivot: call.pivot, ..Call::default() };
        if plain != *call {
            out.push(Node { kind: Kind::Call(plain), ..node.clone() });
        }
    }
    match node.kind {
        Kind::Poll(2..) => out.push(Node { kind: Kind::Poll(1), ..node.clone() }),
        Kind::Pages(2..) => out.push(Node { kind: Kind::Pages(1), ..node.clone() }),
        _ => {}
    }
    if let Kind::For { concurrency: 2.., tolerate, body } = &node.kind {
        let kind = Kind::For { concurrency: 1, tolerate: *tolerate, body: body.clone() };
        out.push(Node { kind, ..node.clone() });
    }
    for (which, list) in node.kind.lists().into_iter().enumerate() {
        for list in lists(list) {
            let mut smaller = node.clone();
            *smaller.kind.lists_mut()[which] = list;
            out.push(smaller);
        }
    }
    out
}
