//! Lists of steps: one kind each, their shared keys, where they lie and what lies before the pivot.

use std::sync::Arc;

use super::call::{FORWARD, default_key_place};
use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{
    Action, Arm, Attempts, Classify, Compensate, FailTemplate, Idempotency, OnUnknown, Parent, RetryPolicy, Step,
    StepIndex, UnknownElse, WaitFor,
};
use super::policy::RetryPatch;
use super::reader::{At, Map, listed, shorten};
use super::yaml::{Meaning, Node, Yaml};
use crate::id::{ServiceName, StepId};

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
const STEP_WITH_CALL: &[&str] = &[
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

    fn forward_call(&mut self, map: Map<'_>, index: StepIndex, service: Option<&ServiceName>) -> Option<Action> {
        let at = At::Forward(index);
        // The service was read (and reported) already; a stand-in lets the rest be checked.
        let stand_in = ServiceName::parse("unknown").ok()?;
        let without_call: Vec<_> = map.entries.iter().filter(|entry| entry.key != "call").cloned().collect();
        let inner = Map { entries: &without_call, span: map.span, known: STEP_WITH_CALL, later: &[] };
        let call = self.call(inner, "a `call` step", Some(service.unwrap_or(&stand_in)), FORWARD, at);
        let (attempt, total) = map.get("timeout").map_or((None, None), |node| self.reader.timeout(node));
        let retry = map.get("retry").map_or(RetryPatch::default(), |node| self.reader.retry(node));
        let mut below = self.defaults.retry.over(RetryPolicy::FORWARD);
        if self.steps[index as usize].after_pivot {
            below.attempts = Attempts::Forever;
        }
        let classify = map.get("classify").map_or_else(Classify::default, |node| self.classify(node, at));
        let on_unknown = map.get("on_unknown").map(|node| self.on_unknown(node, service, at));
        let expect = map.get("expect").and_then(|node| self.reader.expression(node, super::call::WITH_RESULT, at));
        let output = map.get("output").and_then(|node| self.output_of(node, at));
        let idempotency = map.get("idempotency").and_then(|node| self.idempotency(node, at));
        let attempt_timeout = self.attempt_timeout(attempt, service, None);
        let step = &mut self.steps[index as usize];
        step.attempt_timeout = attempt_timeout;
        step.total_timeout = total;
        step.retry = retry.over(below);
        step.classify = classify;
        step.expect = expect;
        step.output = output;
        if let Some(on_unknown) = on_unknown {
            step.on_unknown = on_unknown;
        }
        if let Some(idempotency) = idempotency {
            step.idempotency = idempotency;
        }
        call.map(Action::Call)
    }

    fn fail(&mut self, node: &Node, at: At) -> Option<Action> {
        let map = self.reader.mapping(node, "`fail`", &["type", "title", "detail"], &["status"])?;
        let kind = self.reader.required(map, "`fail`", "type", "a short word for programs, such as out_of_stock");
        let kind = kind.and_then(|node| self.reader.text_template(node, "`type`", FORWARD, at));
        let title = self.reader.required(map, "`fail`", "title", "one line for people");
        let title = title.and_then(|node| self.reader.text_template(node, "`title`", FORWARD, at));
        let detail = match map.get("detail") {
            Some(node) => Some(self.reader.text_template(node, "`detail`", FORWARD, at)?),
            None => None,
        };
        Some(Action::Fail(FailTemplate { kind: kind?, title: title?, detail }))
    }

    fn switch(&mut self, node: &Node, index: StepIndex, path: &str, spot: Spot) -> Option<Action> {
        if spot.depth >= SWITCH_DEPTH_MAX {
            let message = format!("switches nest at most {SWITCH_DEPTH_MAX} deep");
            self.reader.find(Finding::new("S003", self.reader.first_line(&node.span), message));
            return None;
        }
        let items = self.reader.list(node)?;
        if items.is_empty() {
            self.reader.find(Finding::new("S060", node.span.clone(), "a `switch` has at least one branch"));
        }
        let before = self.after_pivot;
        let (mut arms, mut pivots, mut whole) = (Vec::new(), Vec::new(), true);
        for (at, item) in items.iter().enumerate() {
            self.after_pivot = before;
            let Some(map) = self.reader.mapping(item, "a branch", &["when", "do", "else"], &[]) else {
                whole = false;
                continue;
            };
            let arm = Parent { step: index, arm: arms.len() as u32 };
            let (when, body) = if let Some(entry) = map.entry("else") {
                if at + 1 < items.len() {
                    let message = "`else` is the last branch";
                    self.reader.find(
                        Finding::new("S060", entry.key_span.clone(), message).help("what follows it is never reached"),
                    );
                }
                if let Some(when) = map.entry("when").or_else(|| map.entry("do")) {
                    let message = format!("a branch is `else` or has `{}`, not both", when.key);
                    self.reader.find(Finding::new("S014", when.key_span.clone(), message));
                }
                (None, Some(&entry.value))
            } else {
                let when =
                    self.reader.required(map, "a branch", "when", "write `when: ${ … }`, or `else:` for the last");
                let when = when.and_then(|node| self.reader.expression(node, FORWARD, At::Condition(index)));
                whole &= when.is_some();
                (when, self.reader.required(map, "a branch", "do", "a list of steps"))
            };
            let steps = body.map_or_else(Vec::new, |body| self.steps(body, Some(arm), path, spot.depth + 1, spot.last));
            pivots.push((self.after_pivot && !before, self.ends_in_fail(&steps), self.reader.first_line(&item.span)));
            arms.push(Arm { when, steps });
        }
        self.after_pivot = before;
        if pivots.iter().any(|(pivot, ..)| *pivot) {
            self.after_pivot = true;
            if !arms.iter().any(|arm| arm.when.is_none()) && whole {
                let message = "a `switch` with a pivot in a branch has an `else`";
                let span = self.places[index as usize].kind.clone();
                let help = "say what happens when no branch matches: a pivot there too, or a `fail`";
                self.reader.find(Finding::new("S045", span, message).help(help));
            }
            for (_, _, span) in pivots.iter().filter(|(pivot, fails, _)| !pivot && !fails) {
                let message = "another branch of this `switch` has a pivot, this one has none";
                let help = "give it a pivot, or end it with a `fail`";
                self.reader.find(Finding::new("S045", span.clone(), message).help(help));
            }
        }
        whole.then_some(Action::Switch(arms))
    }

    fn ends_in_fail(&self, steps: &[StepIndex]) -> bool {
        steps.last().is_some_and(|last| {
            let step = &self.steps[*last as usize];
            matches!(step.action, Action::Fail(_)) && step.condition.is_none()
        })
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
