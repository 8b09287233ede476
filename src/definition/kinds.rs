//! The kinds of steps that have parts of their own: calls, switches, failures.

use super::call::FORWARD;
use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{Action, Arm, Attempts, CallTemplate, Classify, FailTemplate, Part, RetryPolicy, StepIndex};
use super::policy::RetryPatch;
use super::reader::{AnswerTo, At, Map};
use super::step::{STEP_WITH_CALL, Spot};
use super::yaml::Node;
use crate::id::ServiceName;

impl Loader<'_> {
    pub(super) fn forward_call(
        &mut self,
        map: Map<'_>,
        index: StepIndex,
        service: Option<&ServiceName>,
    ) -> Option<CallTemplate> {
        let at = At::Forward(index);
        // The service was read (and reported) already; a stand-in lets the rest be checked.
        let stand_in = ServiceName::parse("unknown").ok()?;
        let without_call: Vec<_> = map.entries.iter().filter(|entry| entry.key != "call").cloned().collect();
        let inner = Map { entries: &without_call, span: map.span, known: STEP_WITH_CALL };
        let call = self.call(inner, "a `call` step", Some(service.unwrap_or(&stand_in)), FORWARD, at);
        let (attempt, total) = map.get("timeout").map_or((None, None), |node| self.reader.timeout(node));
        let retry = self.forward_retry(map, index);
        let classify = map.get("classify").map_or_else(Classify::default, |node| self.classify(node, at));
        let on_unknown = map.get("on_unknown").map(|node| self.on_unknown(node, service, at));
        let expect = map.get("expect").and_then(|node| self.reader.expression(node, super::call::WITH_RESULT, at));
        for key in ["expect", "output"] {
            self.reader.answers.extend(map.get(key).map(|node| (node.span.clone(), AnswerTo::Call)));
        }
        let (output, output_schema) = map.get("output").map_or((None, None), |node| self.output_of(node, at));
        let idempotency = map.get("idempotency").and_then(|node| self.idempotency(node, at));
        let paginate = map.get("paginate").and_then(|node| self.paginate(node, at));
        let cache = map.get("cache").and_then(|node| self.cache(node, at));
        let attempt_timeout = self.attempt_timeout(attempt, service, None);
        let step = &mut self.steps[index as usize];
        step.attempt_timeout = attempt_timeout;
        step.total_timeout = total;
        step.retry = retry;
        step.paginate = paginate;
        step.cache = cache;
        step.classify = classify;
        step.expect = expect;
        step.output = output;
        step.output_schema = output_schema;
        if let Some(on_unknown) = on_unknown {
            step.on_unknown = on_unknown;
        }
        if let Some(idempotency) = idempotency {
            step.idempotency = idempotency;
        }
        call
    }

    /// Reads `retry` of a step that goes forward.
    pub(super) fn forward_retry(&mut self, map: Map<'_>, index: StepIndex) -> RetryPolicy {
        let retry = map.get("retry").map_or(RetryPatch::default(), |node| self.reader.retry(node));
        let mut below = self.defaults.retry.over(RetryPolicy::FORWARD);
        if self.steps[index as usize].after_pivot {
            below.attempts = Attempts::Forever;
        }
        retry.over(below)
    }

    pub(super) fn fail(&mut self, node: &Node, at: At) -> Option<Action> {
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

    pub(super) fn switch(&mut self, node: &Node, index: StepIndex, path: &str, spot: Spot) -> Option<Action> {
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
            let arm = Part::Arm(arms.len() as u32);
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
            let block = body.map(|body| self.block(body, arm, path, spot.inside(index)));
            let Some(block) = block else {
                whole = false;
                continue;
            };
            let fails = self.ends_in_fail(&self.blocks[block as usize].steps);
            pivots.push((self.after_pivot && !before, fails, self.reader.first_line(&item.span)));
            arms.push(Arm { when, block });
        }
        self.after_pivot = before;
        if pivots.iter().any(|(pivot, ..)| *pivot) {
            self.after_pivot = true;
            if self.steps[index as usize].condition.is_some() {
                let span = self.places[index as usize].kind.clone();
                let message = "a `switch` with a pivot in a branch has no `if`";
                let help = "make the condition a branch of its own, with a pivot or a `fail`";
                self.reader.find(Finding::new("S045", span, message).help(help));
            }
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
