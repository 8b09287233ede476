//! Makes a story that breaks a promise smaller, until nothing can be left out: what went wrong, then steps,
//! then what a step says beside what it does.

use std::fmt;

use super::spec::Call;
use super::tape::Tape;
use super::tree::{Handled, Kind, Node, Tree};

/// Runs that a shrinking may take: some seconds.
const TRIES: usize = 3_000;

/// A saga, and what goes wrong in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    pub tree: Tree,
    pub tape: Tape,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.tree.yaml())?;
        self.tape.iter().try_for_each(|thing| writeln!(f, "- {thing}"))
    }
}

/// The promise that a finding names: its first word.
fn promise(finding: &str) -> &str {
    finding.split_whitespace().next().unwrap_or_default()
}

/// The smallest case that breaks the same promise as the first finding of `case`; none when `case` itself
/// breaks none. `found` gives the findings of a case, or none when its file does not load.
pub fn smallest(case: Case, found: impl Fn(&Case) -> Option<Vec<String>>) -> Option<Case> {
    let wanted = promise(found(&case)?.first()?).to_owned();
    let bites =
        |case: &Case| found(case).is_some_and(|findings| findings.iter().any(|finding| promise(finding) == wanted));
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

/// Every case that is smaller by one thing, what makes it smallest first.
fn smaller(case: &Case) -> Vec<Case> {
    let mut cases: Vec<Case> =
        trees(&case.tree).into_iter().map(|tree| Case { tree, tape: case.tape.clone() }).collect();
    for at in 0..case.tape.len() {
        let mut tape = case.tape.clone();
        tape.remove(at);
        cases.push(Case { tree: case.tree.clone(), tape });
    }
    cases
}

fn trees(tree: &Tree) -> Vec<Tree> {
    let mut trees: Vec<Tree> = Vec::new();
    if tree.timeout.is_some() {
        trees.push(Tree { timeout: None, ..tree.clone() });
    }
    if tree.lock {
        trees.push(Tree { lock: false, ..tree.clone() });
    }
    trees.extend(lists(&tree.steps).into_iter().map(|steps| Tree { steps, ..tree.clone() }));
    trees
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
