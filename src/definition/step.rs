//! Lists of steps: one kind each, their shared keys, where they lie and what lies before the pivot.

use std::sync::Arc;

use super::call::{FORWARD, default_key_place};
use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{
    Action, Classify, Compensate, Idempotency, OnUnknown, Parent, RetryPolicy, Step, StepIndex, UnknownElse, WaitFor,
};
use super::reader::{At, Map, listed, shorten};
use super::yaml::{Meaning, Node, Yaml};
use crate::id::StepId;

/// Steps of one file, nested ones included: what a person can still read.
pub const STEPS_MAX: usize = 500;
/// Switches inside each other.
pub const SWITCH_DEPTH_MAX: usize = 8;

const KINDS: &[&str] = &["call", "emit", "set", "wait", "wait_until", "switch", "fail"];
const KINDS_LATER: &[&str] = &["await", "ask", "parallel", "for", "try", "poll", "run"];
/// Keys of any step.
const SHARED: &[&str] = &["id", "if", "compensate", "pivot", "optional", "tags"];
/// Keys of a step that calls.
const CALL_KEYS: &[&str] = &["with", "timeout", "retry", "classify", "on_unknown", "output", "expect", "idempotency"];
/// What a step that calls may have beside `call`.
pub(super) const STEP_WITH_CALL: &[&str] = &[
    "id",
    "if",
    "compensate",
    "pivot",
    "optional",
    "tags",
    "with",
    "timeout",
    "retry",
    "classify",
    "on_unknown",
    "output",
    "expect",
    "idempotency",
];
const KEYS_LATER: &[&str] = &[
    "paginate",
    "fallback",
    "cache",
    "reply",
    "do",
    "catch",
    "where",
    "since",
    "on_timeout",
    "title",
    "show",
    "form",
    "who",
    "version",
    "input",
];

/// Where the next step goes.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub parent: Option<Parent>,
    pub depth: usize,
    /// The last of its list, and every list around it ends with it.
    pub last: bool,
}

impl Loader<'_> {
    /// Reads a list of steps and returns their indexes.
    pub(super) fn steps(
        &mut self,
        node: &Node,
        parent: Option<Parent>,
        prefix: &str,
        depth: usize,
        last: bool,
    ) -> Vec<StepIndex> {
        let Some(items) = self.reader.list(node) else { return Vec::new() };
        if items.is_empty() {
            self.reader.find(Finding::new("S060", node.span.clone(), "a list of steps is never empty"));
        }
        let mut out = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            if self.steps.len() >= STEPS_MAX {
                let message = format!("a saga has at most {STEPS_MAX} steps");
                self.reader.find(Finding::new("S003", self.reader.first_line(&item.span), message));
                break;
            }
            let spot = Spot { parent, depth, last: last && at + 1 == items.len() };
            if let Some(index) = self.step(item, spot, prefix) {
                out.push(index);
                let next = items.get(at + 1);
                if let (Action::Fail(_), None, Some(next)) =
                    (&self.steps[index as usize].action, &self.steps[index as usize].condition, next)
                {
                    let message = "this step is never reached: the step before it fails the run";
                    let span = self.reader.first_line(&next.span);
                    self.reader.find(
                        Finding::new("S047", span, message).help("move it before the `fail`, or give that an `if`"),
                    );
                }
            }
        }
        out
    }

    fn step(&mut self, node: &Node, spot: Spot, prefix: &str) -> Option<StepIndex> {
        let Yaml::Mapping(entries) = &node.value else {
            let message = format!("a step is a mapping with `id` and one of {}, not {}", listed(KINDS), node.kind());
            self.reader.find(Finding::new("S006", self.reader.first_line(&node.span), message));
            return None;
        };
        let map = Map { entries, span: &node.span, known: &[], later: &[] };
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
        self.steps.push(placeholder(id, path.as_str().into(), spot.parent, after_pivot));
        self.places.push(super::file::Placed {
            id: id_span.clone(),
            kind: map.entry(kind).map_or(id_span, |entry| entry.key_span.clone()),
            last: spot.last,
        });
        if let Some(node) = map.get("if") {
            let condition = self.reader.expression(node, FORWARD, At::Condition(index));
            self.steps[index as usize].condition = condition;
        }
        let pivot = map.get("pivot").and_then(|node| self.reader.boolean(node, "`pivot`")).unwrap_or(false);
        let optional = map.get("optional").and_then(|node| self.reader.boolean(node, "`optional`")).unwrap_or(false);
        if optional
            && matches!(kind, "switch" | "fail")
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

        let service = if kind == "call" { map.get("call").and_then(|node| self.service(node)) } else { None };
        let action = match kind {
            "call" => self.forward_call(map, index, service.as_ref()),
            "emit" => self.emit(map, FORWARD, at).map(Action::Emit),
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
            _ => map.get("fail").and_then(|node| self.fail(node, at)),
        };
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
        let found: Vec<&'static str> = KINDS.iter().copied().filter(|kind| map.has(kind)).collect();
        let later = map.entries.iter().find(|entry| KINDS_LATER.contains(&entry.key.as_str()));
        match (found.as_slice(), later) {
            ([], Some(entry)) => {
                let message = format!("`{}` is not available in this version", entry.key);
                let help = format!("a step has one of {}", listed(KINDS));
                self.reader.find(Finding::new("S008", entry.key_span.clone(), message).help(help));
                None
            }
            ([], None) => {
                let others: Vec<&str> = KINDS.iter().chain(KINDS_LATER).copied().collect();
                let near = map.entries.iter().find_map(|entry| {
                    if SHARED.contains(&entry.key.as_str()) || CALL_KEYS.contains(&entry.key.as_str()) {
                        return None;
                    }
                    crate::expression::suggest(&entry.key, others.iter().copied()).map(|near| (entry, near))
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
            ([kind], None) => Some(kind),
            ([kind, ..], _) => {
                let second = later.or_else(|| found.get(1).and_then(|kind| map.entry(kind)));
                if let Some(second) = second {
                    let message = format!("a step does one thing, this one has `{kind}` and `{}`", second.key);
                    self.reader
                        .find(Finding::new("S014", second.key_span.clone(), message).help("make two steps of it"));
                }
                Some(kind)
            }
        }
    }

    fn step_keys(&mut self, map: Map<'_>, kind: &str) {
        let own: &[&str] = match kind {
            "emit" => &["data", "key"],
            _ => &[],
        };
        for entry in map.entries {
            let key = entry.key.as_str();
            if key == kind
                || SHARED.contains(&key)
                || own.contains(&key)
                || KINDS.contains(&key)
                || KINDS_LATER.contains(&key)
            {
                continue;
            }
            let calls = CALL_KEYS.contains(&key);
            if calls && kind == "call" {
                continue;
            }
            let finding = if calls || matches!(key, "data" | "key") {
                let owner = if calls { "call" } else { "emit" };
                let message = format!("`{key}` has no meaning on {} `{kind}` step", article(kind));
                Finding::new("S016", entry.key_span.clone(), message).help(format!("it belongs to `{owner}`"))
            } else if KEYS_LATER.contains(&key) {
                Finding::new("S008", entry.key_span.clone(), format!("`{key}` is not available in this version"))
            } else {
                let mut known: Vec<&str> = [kind].iter().chain(SHARED).chain(own).copied().collect();
                if kind == "call" {
                    known.extend(CALL_KEYS);
                }
                let help = match crate::expression::suggest(key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("{} `{kind}` step has {}", article(kind), listed(&known)),
                };
                Finding::new("S007", entry.key_span.clone(), format!("a step has no key `{}`", shorten(key))).help(help)
            };
            self.reader.find(finding);
        }
    }
}

/// A step with nothing but its place, until its keys are read.
fn placeholder(id: StepId, path: Arc<str>, parent: Option<Parent>, after_pivot: bool) -> Step {
    Step {
        id,
        path,
        parent,
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
        expect: None,
        output: None,
        idempotency: Idempotency { place: default_key_place(), value: None },
    }
}

fn article(kind: &str) -> &'static str {
    if kind == "emit" { "an" } else { "a" }
}

/// Returns every word of steps, for the test of the reference.
#[cfg(test)]
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    [KINDS, KINDS_LATER, SHARED, CALL_KEYS].into_iter().flatten().copied()
}
