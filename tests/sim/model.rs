//! A much dumber model beside the product: from the drawn tree and what was recorded of each single step it
//! works out, without any notion of scope, phase or queue, whether the run must have come through, and what must be
//! left standing at the services. It shares no code with `src/saga`; a test reads its `use` lines.

use std::collections::{BTreeMap, BTreeSet};

use super::observe::Seen;
use super::spec::{Call, Undo};
use super::tree::{Handled, ITEMS, Kind, Node, Tree};

/// How a list of steps went.
#[derive(Default)]
struct Sum {
    failed: bool,
    /// It was not let to its end: a race that is over, a failure beside it, a cancel.
    stopped: bool,
    /// Calls that are done or unknown and were not to be taken back.
    standing: BTreeSet<String>,
    /// Calls that may stand or not: what is around them failed while they were taken back.
    open: BTreeSet<String>,
    /// Place of its last record.
    last: usize,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.failed |= other.failed;
        self.stopped |= other.stopped;
        self.standing.extend(other.standing);
        self.open.extend(other.open);
        self.last = self.last.max(other.last);
    }
}

pub struct Model<'a> {
    /// Last outcome by path, and the place of its record.
    words: BTreeMap<&'a str, (usize, &'a str)>,
    /// Failures whose handling was over, and where.
    handled: BTreeMap<&'a str, usize>,
    calls: BTreeMap<String, Call>,
}

impl<'a> Model<'a> {
    pub fn new(tree: &Tree, seen: &'a [(u64, Seen)]) -> Self {
        let (mut words, mut handled) = (BTreeMap::new(), BTreeMap::new());
        for (at, (_, one)) in seen.iter().enumerate() {
            if let Seen::Recorded { fact, path: Some(path), word } = one {
                let word = match fact.as_str() {
                    "step_ended" => word.as_deref().unwrap_or(""),
                    "step_skipped" => "skipped",
                    "failure_handled" => {
                        handled.insert(path.as_str(), at);
                        continue;
                    }
                    _ => continue,
                };
                words.insert(path.as_str(), (at, word));
            }
        }
        let calls = tree.calls().into_iter().map(|(path, placed)| (path, placed.call)).collect();
        Self { words, handled, calls }
    }

    /// What must be left, and what may be, when the run came through; none when it must not have come through.
    pub fn left(&self, tree: &Tree) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
        let sum = self.list(&tree.steps, "");
        (!sum.failed && !sum.stopped).then_some((sum.standing, sum.open))
    }

    /// Calls that must have been taken back in a run that did not come through.
    pub fn undone(&self) -> BTreeSet<String> {
        let to_undo = |path: &str, call: &Call| {
            matches!(call.undo, Undo::Call | Undo::Emit)
                && !call.pivot
                && matches!(self.words.get(path), Some((_, "done" | "unknown")))
        };
        self.calls.iter().filter(|(path, call)| to_undo(path, call)).map(|(path, _)| path.clone()).collect()
    }

    pub fn is_unknown(&self, path: &str) -> bool {
        matches!(self.words.get(path), Some((_, "unknown")))
    }

    fn undoable(&self, path: &str) -> bool {
        matches!(self.calls[path].undo, Undo::Call | Undo::Emit)
    }

    /// All is taken back, as far as there is a way.
    fn take_back(&self, sum: &mut Sum) {
        sum.standing.retain(|path| !self.undoable(path));
        sum.open.retain(|path| !self.undoable(path));
    }

    /// A handled unknown step is cleared, if there is a way.
    fn clear(&self, standing: &mut BTreeSet<String>) {
        standing.retain(|path| !self.is_unknown(path) || !matches!(self.calls[path].undo, Undo::Call | Undo::Emit));
    }

    fn list(&self, steps: &[Node], prefix: &str) -> Sum {
        let mut sum = Sum::default();
        for node in steps {
            if sum.failed || sum.stopped {
                break;
            }
            sum.add(self.node(node, prefix));
        }
        sum
    }

    fn node(&self, node: &Node, prefix: &str) -> Sum {
        let path = format!("{prefix}{}", node.id);
        let inside = format!("{path}/");
        let node_path = path.clone();
        let mut sum = match &node.kind {
            Kind::Parallel { branches, wanted, .. } => {
                let sums: Vec<Sum> = branches.iter().map(|branch| self.list(branch, &inside)).collect();
                let last = sums.iter().map(|sum| sum.last).max().unwrap_or_default();
                let failures = sums.iter().filter(|sum| sum.failed).count();
                let first_failure = sums.iter().filter(|sum| sum.failed).map(|sum| sum.last).min();
                let hopeless = branches.len() - failures < *wanted;
                let (mut winners, mut losers): (Vec<Sum>, Vec<Sum>) =
                    sums.into_iter().partition(|sum| !sum.failed && !sum.stopped);
                winners.sort_by_key(|sum| sum.last);
                let short = winners.len() < *wanted;
                let race = *wanted < branches.len();
                // What got to its end stays also when too few did.
                losers.extend(winners.split_off((*wanted).min(winners.len())));
                let mut sum = Sum { failed: short && hopeless, stopped: short && !hopeless, last, ..Sum::default() };
                for mut loser in losers {
                    // In a race what losers did is taken back; else it stays, to be undone with the run.
                    if race && (loser.failed || !short || hopeless) {
                        self.take_back(&mut loser);
                    }
                    sum.standing.extend(loser.standing);
                    sum.open.extend(loser.open);
                }
                for winner in winners {
                    // It may have come too late to count.
                    if race && hopeless && first_failure.is_some_and(|failure| winner.last > failure) {
                        sum.open.extend(winner.standing.iter().cloned());
                    }
                    sum.standing.extend(winner.standing);
                    sum.open.extend(winner.open);
                }
                sum
            }
            Kind::For { tolerate, body, .. } => {
                let mut all = Sum::default();
                let mut failures = 0;
                for item in 0..ITEMS {
                    let mut one = self.list(body, &format!("{path}[{item}]/"));
                    if std::mem::take(&mut one.failed) {
                        failures += 1;
                        self.clear(&mut one.standing);
                    }
                    all.add(one);
                }
                all.failed = failures > *tolerate;
                all.stopped &= !all.failed;
                all
            }
            Kind::Try { body, keep, never, handler } => {
                let mut sum = self.list(body, &inside);
                if sum.failed && !sum.stopped && !never {
                    sum.failed = false;
                    if *keep {
                        self.clear(&mut sum.standing);
                    } else {
                        self.take_back(&mut sum);
                    }
                    sum.add(self.list(handler, &inside));
                }
                sum
            }
            Kind::Switch(list) => self.list(list, &inside),
            Kind::Await { on_timeout: Some(list) } if self.began(list, &inside) => self.list(list, &inside),
            Kind::Skipped => Sum::default(),
            _ => match self.word(&path) {
                "done" => Sum::default(),
                "" => Sum { stopped: true, ..Sum::default() },
                _ => Sum { failed: true, ..Sum::default() },
            },
        };
        let (last, word) = self.words.get(path.as_str()).copied().unwrap_or_default();
        sum.last = sum.last.max(last);
        if matches!(node.kind, Kind::Call(_)) && matches!(word, "done" | "unknown") {
            sum.standing.insert(path);
        }
        if !matches!(node.kind, Kind::Await { .. }) && !node.kind.lists().is_empty() && !sum.failed && word.is_empty() {
            sum.stopped = true;
        }
        let cut_short = matches!(&node.kind, Kind::Parallel { branches, wanted, .. } if *wanted < branches.len())
            && sum.failed
            && word.is_empty();
        if cut_short || (sum.stopped && !node.kind.lists().is_empty()) {
            let within = self
                .calls
                .keys()
                .filter(|call| call.strip_prefix(node_path.as_str()).is_some_and(|rest| rest.starts_with(['/', '['])));
            sum.open.extend(within.cloned());
        }
        if sum.failed && !sum.stopped && node.handled != Handled::No {
            self.clear(&mut sum.standing);
            sum.failed = false;
            if let Handled::Do(list) = &node.handled {
                sum.add(self.list(list, &inside));
            }
            match self.handled.get(node_path.as_str()) {
                Some(at) => sum.last = sum.last.max(*at),
                None if sum.failed => {}
                None => sum.stopped = true,
            }
        }
        sum
    }

    fn word(&self, path: &str) -> &str {
        self.words.get(path).map_or("", |(_, word)| word)
    }

    fn began(&self, list: &[Node], inside: &str) -> bool {
        list.iter().any(|node| {
            let path = format!("{inside}{}", node.id);
            self.words.keys().any(|known| known.starts_with(path.as_str()))
        })
    }
}

/// What the model has against a run's end.
pub fn differences(tree: &Tree, seen: &[(u64, Seen)], applied: impl Fn(&str) -> bool) -> Vec<String> {
    let (mut state, mut stopped, mut told_otherwise, mut undone) = ("", false, false, BTreeSet::new());
    for (_, one) in seen {
        match one {
            Seen::State { state: now } => state = now,
            Seen::Recorded { fact, word, .. } if fact == "settling_began" => {
                stopped |= matches!(word.as_deref(), Some("cancelled" | "deadline" | "timeout"));
            }
            Seen::Recorded { fact, path: Some(path), .. } if fact == "undo_ended" => {
                undone.insert(path.clone());
            }
            // A person's word may stand against what the services say.
            Seen::Operated { command } => told_otherwise |= matches!(command.as_str(), "resolve" | "skip"),
            _ => {}
        }
    }
    if told_otherwise {
        return Vec::new();
    }
    let model = Model::new(tree, seen);
    let mut wrong = Vec::new();
    match (state, model.left(tree)) {
        ("completed", Some((left, may_be_left))) => {
            for (path, call) in &model.calls {
                let open = may_be_left.contains(path) || (model.is_unknown(path) && !matches!(call.undo, Undo::Call));
                if !open && call.undo != Undo::Emit && applied(path) != left.contains(path) {
                    let (is, must) = if applied(path) { ("there", "not be") } else { ("not there", "be") };
                    wrong.push(format!("M {path} is {is} and must {must}"));
                }
            }
        }
        ("completed", None) => wrong.push("M it completed, though a failure was not handled".to_owned()),
        ("compensated", Some(_)) if !stopped => wrong.push("M it was undone without a reason".to_owned()),
        ("compensated", _) => {
            let must = model.undone();
            for path in must.difference(&undone) {
                wrong.push(format!("M {path} must be undone"));
            }
        }
        _ => {}
    }
    wrong
}

/// The model is worth something because it is another one.
#[test]
fn the_checkers_share_no_code_with_the_core() {
    for name in ["model.rs", "invariants.rs", "tree.rs", "spec.rs", "observe.rs", "services.rs"] {
        let text = std::fs::read_to_string(format!("{}/tests/sim/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let product = concat!("back", "stitch::");
        for (at, line) in text.lines().enumerate() {
            assert!(!line.contains(product), "tests/sim/{name}:{}: {line}; judge from outside instead", at + 1);
        }
    }
}
