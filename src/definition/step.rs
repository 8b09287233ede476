//! Lists of steps: one kind each, their shared keys, where they lie and what lies before the pivot.

use std::sync::Arc;

use super::call::{FORWARD, default_key_place};
use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{
    Action, Arm, Block, BlockIndex, Classify, Compensate, Idempotency, OnUnknown, Part, RetryPolicy, Step, StepIndex,
    UnknownElse, WaitFor,
};
use super::reader::{At, Map, listed, shorten};
use super::yaml::{Meaning, Node, Yaml};
use crate::id::StepId;

/// Steps of one file, nested ones included: more than a person reads, so that generated files fit.
pub const STEPS_MAX: usize = 5_000;
/// Lists of steps inside each other.
pub const NEST_DEPTH_MAX: usize = 12;

/// Every word that says what a step does.
const KINDS: &[&str] = &[
    "call",
    "emit",
    "set",
    "wait",
    "wait_until",
    "switch",
    "fail",
    "await",
    "ask",
    "parallel",
    "for",
    "try",
    "poll",
    "run",
];
/// Keys of any step.
const SHARED: &[&str] = &["id", "if", "compensate", "pivot", "optional", "fallback", "tags"];
/// Keys of a step that calls.
const CALL_KEYS: &[&str] =
    &["with", "timeout", "retry", "classify", "on_unknown", "output", "expect", "idempotency", "paginate", "cache"];
/// What a step that calls may have beside `call`.
pub(super) const STEP_WITH_CALL: &[&str] = &[
    "id",
    "if",
    "compensate",
    "pivot",
    "optional",
    "fallback",
    "tags",
    "with",
    "timeout",
    "retry",
    "classify",
    "on_unknown",
    "output",
    "expect",
    "idempotency",
    "paginate",
    "cache",
    "poll",
];

/// Returns the keys that a kind has of its own.
fn own_keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "call" => CALL_KEYS,
        "poll" => &["call", "with", "timeout", "retry", "classify", "on_unknown", "output", "expect", "idempotency"],
        "emit" => &["data", "key", "reply", "retry", "on_unknown", "output", "expect"],
        "await" => &["where", "since", "timeout", "on_timeout", "output", "expect"],
        "ask" => &["title", "show", "form", "who", "timeout", "on_timeout", "output", "expect"],
        "for" => &["do", "timeout"],
        "try" => &["catch", "timeout"],
        "parallel" | "switch" => &["timeout"],
        "run" => &["version", "input"],
        _ => &[],
    }
}

/// Where the next list or step goes.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    /// The step around.
    pub owner: Option<StepIndex>,
    /// `for` steps around.
    pub items: u8,
    pub depth: usize,
    /// The last of its list, and every list around it ends with it.
    pub last: bool,
}

impl Spot {
    /// Returns the spot of a list inside a step that ends with it.
    pub(super) fn inside(self, owner: StepIndex) -> Self {
        Self { owner: Some(owner), depth: self.depth + 1, ..self }
    }

    /// Returns the spot of a list behind which more may come.
    pub(super) fn beside(self, owner: StepIndex) -> Self {
        Self { last: false, ..self.inside(owner) }
    }
}

impl Loader<'_> {
    /// Reads a list of steps and returns its index; an index is given even where the list is wrong.
    pub(super) fn block(&mut self, node: &Node, part: Part, prefix: &str, spot: Spot) -> BlockIndex {
        let block = self.blocks.len() as BlockIndex;
        self.blocks.push(Block { owner: spot.owner, part, items: spot.items, steps: Vec::new() });
        if spot.depth > NEST_DEPTH_MAX {
            let message = format!("steps nest at most {NEST_DEPTH_MAX} deep");
            self.reader.find(Finding::new("S003", self.reader.first_line(&node.span), message));
            return block;
        }
        let Some(items) = self.reader.list(node) else { return block };
        if items.is_empty() {
            self.reader.find(Finding::new("S060", node.span.clone(), "a list of steps is never empty"));
        }
        for (at, item) in items.iter().enumerate() {
            if self.steps.len() >= STEPS_MAX {
                let message = format!("a saga has at most {STEPS_MAX} steps");
                self.reader.find(Finding::new("S003", self.reader.first_line(&item.span), message));
                break;
            }
            let spot = Spot { last: spot.last && at + 1 == items.len(), ..spot };
            if let Some(index) = self.step(item, block, spot, prefix) {
                let next = items.get(at + 1);
                if let Some(next) = next.filter(|_| self.always_fails(index)) {
                    let message = "this step is never reached: the step before it fails the run";
                    let span = self.reader.first_line(&next.span);
                    self.reader.find(
                        Finding::new("S047", span, message).help("move it before the `fail`, or give that an `if`"),
                    );
                }
            }
        }
        block
    }

    /// True of a `fail`, and of a `switch` that fails whichever branch it takes.
    fn always_fails(&self, index: StepIndex) -> bool {
        let step = &self.steps[index as usize];
        if step.condition.is_some() || step.optional || step.fallback.is_some() {
            return false;
        }
        match &step.action {
            Action::Fail(_) => true,
            Action::Switch(arms) => {
                let fails = |arm: &Arm| {
                    self.blocks[arm.block as usize].steps.last().is_some_and(|last| self.always_fails(*last))
                };
                arms.iter().any(|arm| arm.when.is_none()) && arms.iter().all(fails)
            }
            _ => false,
        }
    }

    fn step(&mut self, node: &Node, block: BlockIndex, spot: Spot, prefix: &str) -> Option<StepIndex> {
        let Yaml::Mapping(entries) = &node.value else {
            let message = format!("a step is a mapping with `id` and one of {}, not {}", listed(KINDS), node.kind());
            self.reader.find(Finding::new("S006", self.reader.first_line(&node.span), message));
            return None;
        };
        let map = Map { entries, span: &node.span, known: &[] };
        let id = self.step_id(map);
        let kind = self.kind(map);
        let Some(kind) = kind else {
            // Without a kind nothing else can be judged; the id counts, so that others may name it.
            if let Some((id, _)) = id {
                self.unread.insert(id.as_str().to_owned());
            }
            return None;
        };
        self.step_keys(map, kind);
        let (id, id_span) = match id {
            Some((id, span)) => (id, span),
            // A stand-in keeps the indexes right; the file is refused anyway.
            None => (StepId::parse("unnamed").ok()?, self.reader.first_line(&node.span)),
        };
        let path = if prefix.is_empty() { id.as_str().to_owned() } else { format!("{prefix}/{id}") };
        let index = self.steps.len() as StepIndex;
        let at = At::Forward(index);
        let after_pivot = self.after_pivot;
        let position = self.blocks[block as usize].steps.len() as u32;
        self.blocks[block as usize].steps.push(index);
        self.steps.push(placeholder(id, path.as_str().into(), (block, position, spot.items), after_pivot));
        self.places.push(super::file::Placed {
            id: id_span.clone(),
            kind: map.entry(kind).map_or(id_span, |entry| entry.key_span.clone()),
            last: spot.last,
        });
        if let Some(node) = map.get("if") {
            let condition = self.reader.expression(node, FORWARD, At::Condition(index));
            self.steps[index as usize].condition = condition;
        }
        let pivot = match map.get("pivot") {
            Some(node) => self.reader.boolean(node, "`pivot`").unwrap_or(false),
            None => kind == "run" && self.resolved.contains(self.steps[index as usize].id.as_str()),
        };
        let optional = map.get("optional").and_then(|node| self.reader.boolean(node, "`optional`")).unwrap_or(false);
        if optional
            && kind == "fail"
            && let Some(entry) = map.entry("optional")
        {
            let message = format!("`optional` has no meaning on a `{kind}` step");
            let help = "put it on the steps that may fail, or give this one an `if`";
            self.reader.find(Finding::new("S016", entry.key_span.clone(), message).help(help));
        }
        self.steps[index as usize].pivot = pivot;
        if map.get("pivot").is_some_and(
            |node| !matches!(&node.value, Yaml::Scalar(scalar) if matches!(scalar.meaning(), Meaning::Bool(_))),
        ) {
            self.broken.insert(index); // whether this is the pivot is not known
        }
        self.steps[index as usize].optional = optional;

        let calls = matches!(kind, "call" | "poll");
        let service = if calls { map.get("call").and_then(|node| self.service(node)) } else { None };
        let action = match kind {
            "call" => self.forward_call(map, index, service.as_ref()).map(Action::Call),
            "poll" => self.poll(map, index, service.as_ref()),
            "emit" => self.forward_emit(map, index, at),
            "set" => map.get("set").and_then(|node| self.reader.template(node, FORWARD, at)).map(Action::Set),
            "wait" => map
                .get("wait")
                .and_then(|node| self.reader.span(node, "`wait`"))
                .map(|span| Action::Wait(WaitFor::Span(span))),
            "wait_until" => {
                let until = map.get("wait_until").and_then(|node| self.reader.expression(node, FORWARD, at));
                until.map(|until| Action::Wait(WaitFor::Until(until)))
            }
            "switch" => map.get("switch").and_then(|node| self.switch(node, index, &path, spot)),
            "await" => self.await_step(map, index, &path, spot),
            "ask" => self.ask(map, index, &path, spot),
            "parallel" => map.get("parallel").and_then(|node| self.parallel(node, index, &path, spot)),
            "for" => self.for_step(map, index, &path, spot),
            "try" => self.try_step(map, index, &path, spot),
            "run" => self.child(map, FORWARD, at).map(|child| Action::Run(Box::new(child))),
            _ => map.get("fail").and_then(|node| self.fail(node, at)),
        };
        if matches!(kind, "switch" | "parallel" | "for" | "try")
            && let Some(node) = map.get("timeout")
        {
            let (attempt, total) = self.reader.timeout(node);
            self.steps[index as usize].total_timeout = total.or(attempt);
        }
        self.shared_parts(map, index, &path, spot, kind);
        if let Some(action) = action {
            self.steps[index as usize].action = action;
        } else {
            self.broken.insert(index);
        }
        let stated = match map.get("compensate") {
            Some(node) => self.compensate(node, service.as_ref(), at),
            None => None,
        };
        self.undo_rules(index, map, kind, stated);
        if pivot {
            self.after_pivot = true;
        }
        Some(index)
    }

    fn step_id(&mut self, map: Map<'_>) -> Option<(StepId, std::ops::Range<usize>)> {
        let node = self.reader.required(map, "a step", "id", "every step has a name: `id: reserve`")?;
        let id = self.reader.parsed(node, "a step's id", "S010", |text| {
            StepId::parse(text).map_err(|error| {
                let meant = text.to_ascii_lowercase().replace(['-', ' ', '.'], "_");
                match StepId::parse(&meant) {
                    Ok(meant) => format!("{error}; write `{meant}`"),
                    Err(_) => error.to_string(),
                }
            })
        })?;
        if let Some(first) = self.ids.get(id.as_str()) {
            let line = 1 + self.reader.text[..*first].matches('\n').count();
            let message = format!("the step id `{id}` is taken");
            let help = format!("it is first used in line {line}; ids are unique in the file");
            self.reader.find(Finding::new("S015", node.span.clone(), message).help(help));
        } else {
            self.ids.insert(id.as_str().to_owned(), node.span.start);
        }
        Some((id, node.span.clone()))
    }

    /// Finds the one key that says what the step does.
    fn kind(&mut self, map: Map<'_>) -> Option<&'static str> {
        // Beside `poll` stands the call, beside `run` whether its end is waited for.
        let beside = |kind: &str| (kind == "call" && map.has("poll")) || (kind == "wait" && map.has("run"));
        let found: Vec<&'static str> = KINDS.iter().copied().filter(|kind| map.has(kind) && !beside(kind)).collect();
        match found.as_slice() {
            [] => {
                let near = map.entries.iter().find_map(|entry| {
                    if SHARED.contains(&entry.key.as_str()) || CALL_KEYS.contains(&entry.key.as_str()) {
                        return None;
                    }
                    crate::expression::suggest(&entry.key, KINDS.iter().copied()).map(|near| (entry, near))
                });
                let (span, help) = match near {
                    Some((entry, near)) => {
                        (entry.key_span.clone(), format!("did you mean `{near}` for `{}`?", shorten(&entry.key)))
                    }
                    None => {
                        let at = map.entry("id").map_or_else(|| map.span.clone(), |entry| entry.value.span.clone());
                        (self.reader.first_line(&at), format!("add one of {}", listed(KINDS)))
                    }
                };
                self.reader.find(Finding::new("S014", span, "this step does not say what it does").help(help));
                None
            }
            [kind] => Some(kind),
            [kind, second, ..] => {
                if let Some(second) = map.entry(second) {
                    let message = format!("a step does one thing, this one has `{kind}` and `{}`", second.key);
                    self.reader
                        .find(Finding::new("S014", second.key_span.clone(), message).help("make two steps of it"));
                }
                Some(kind)
            }
        }
    }

    fn step_keys(&mut self, map: Map<'_>, kind: &str) {
        let own = own_keys(kind);
        for entry in map.entries {
            let key = entry.key.as_str();
            if key == kind || SHARED.contains(&key) || own.contains(&key) || KINDS.contains(&key) {
                continue;
            }
            let owners: Vec<&str> = KINDS.iter().copied().filter(|kind| own_keys(kind).contains(&key)).collect();
            let finding = if owners.is_empty() {
                let known: Vec<&str> = [kind].iter().chain(SHARED).chain(own).copied().collect();
                let help = match crate::expression::suggest(key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("{} `{kind}` step has {}", article(kind), listed(&known)),
                };
                Finding::new("S007", entry.key_span.clone(), format!("a step has no key `{}`", shorten(key))).help(help)
            } else {
                let message = format!("`{key}` has no meaning on {} `{kind}` step", article(kind));
                Finding::new("S016", entry.key_span.clone(), message).help(format!("it belongs to {}", listed(&owners)))
            };
            self.reader.find(finding);
        }
    }
}

/// A step with nothing but its place, until its keys are read.
fn placeholder(id: StepId, path: Arc<str>, (block, position, items): (BlockIndex, u32, u8), after_pivot: bool) -> Step {
    Step {
        id,
        path,
        block,
        position,
        items,
        condition: None,
        action: Action::Switch(Vec::new()),
        attempt_timeout: crate::time::Span::from_secs(30),
        total_timeout: None,
        retry: RetryPolicy::FORWARD,
        classify: Classify::default(),
        on_unknown: OnUnknown { check: None, otherwise: UnknownElse::Compensate },
        compensate: Compensate::None,
        pivot: false,
        after_pivot,
        optional: false,
        fallback: None,
        cache: None,
        paginate: None,
        tags: Vec::new(),
        expect: None,
        output: None,
        output_schema: None,
        idempotency: Idempotency { place: default_key_place(), value: None },
    }
}

pub(super) fn article(kind: &str) -> &'static str {
    if matches!(kind, "emit" | "await" | "ask") { "an" } else { "a" }
}

/// Returns every word of steps, for the test of the reference.
#[cfg(test)]
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    let own = KINDS.iter().flat_map(|kind| own_keys(kind));
    KINDS.iter().chain(SHARED).chain(own).copied()
}
