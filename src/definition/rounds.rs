//! Calls of several rounds, `poll` and `paginate`; `cache`; and `run`, a child saga.

use super::call::WITH_RESULT;
use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{Action, CachePolicy, Child, Paginate, Poll, StepIndex};
use super::reader::{At, Map};
use super::yaml::Node;
use crate::expression::Root;
use crate::id::{SagaName, ServiceName};

/// Pages of one list: ten times what a page usually holds makes a long list.
const PAGES_MAX: u32 = 10_000;
const PAGES_DEFAULT: u32 = 100;

impl Loader<'_> {
    pub(super) fn poll(&mut self, map: Map<'_>, index: StepIndex, service: Option<&ServiceName>) -> Option<Action> {
        let at = At::Forward(index);
        let rule = self.reader.mapping(map.get("poll")?, "`poll`", &["every", "until", "timeout"], &[]);
        self.reader.required(map, "a `poll` step", "call", "name the service that is asked: `call: SERVICE`");
        let call = self.forward_call(map, index, service);
        let rule = rule?;
        let every = self.reader.required(rule, "`poll`", "every", "the time between two rounds: `every: 10s`");
        let every = every.and_then(|node| self.reader.duration(node, "`every`"));
        let until = self.reader.required(rule, "`poll`", "until", "write `until: ${ $result.body.ready }`");
        let until = until.and_then(|node| self.reader.expression(node, WITH_RESULT, at));
        let timeout = match rule.get("timeout") {
            Some(node) => Some(self.reader.duration(node, "`timeout`")?),
            None => None,
        };
        if self.steps[index as usize].after_pivot
            && let Some(entry) = rule.entry("timeout")
        {
            let message = "after the pivot a timeout cannot fail the run";
            self.reader.find(Finding::new("S046", entry.key_span.clone(), message).help("leave `timeout` out"));
        }
        Some(Action::Poll(Box::new(Poll { call: call?, every: every?, until: until?, timeout })))
    }

    pub(super) fn paginate(&mut self, node: &Node, at: At) -> Option<Paginate> {
        let map = self.reader.mapping(node, "`paginate`", &["next", "items", "max"], &[])?;
        let next = self.reader.required(map, "`paginate`", "next", "where the next page is; null ends it");
        let next = next.and_then(|node| self.reader.expression(node, WITH_RESULT, at));
        let items = self.reader.required(map, "`paginate`", "items", "write `items: ${ $result.body.items }`");
        let items = items.and_then(|node| self.reader.expression(node, WITH_RESULT, at));
        let max = map.get("max").map_or(Some(PAGES_DEFAULT), |node| self.reader.integer(node, "`max`", 1, PAGES_MAX));
        Some(Paginate { next: next?, items: items?, max: max? })
    }

    pub(super) fn cache(&mut self, node: &Node, at: At) -> Option<CachePolicy> {
        let map = self.reader.mapping(node, "`cache`", &["key", "ttl"], &[])?;
        let key = self.reader.required(map, "`cache`", "key", "what tells one answer from another");
        let key = key.and_then(|node| self.reader.text_template(node, "`key`", super::call::FORWARD, at));
        let ttl = self.reader.required(map, "`cache`", "ttl", "how long an answer is good: `ttl: 5m`");
        let ttl = ttl.and_then(|node| self.reader.duration(node, "`ttl`"));
        Some(CachePolicy { key: key?, ttl: ttl? })
    }

    /// Reads `run`, `version`, `input`, `wait`.
    pub(super) fn child(&mut self, map: Map<'_>, roots: &[Root], at: At) -> Option<Child> {
        let saga = self.reader.parsed(map.get("run")?, "a saga's name", "S010", SagaName::parse);
        let version = match map.get("version") {
            Some(node) => Some(self.reader.integer(node, "`version`", 1, 1_000_000)?),
            None => None,
        };
        let input = match map.get("input") {
            Some(node) => Some(self.reader.template(node, roots, at)?),
            None => None,
        };
        // `wait` is a kind of step as well; beside `run` it says whether the child's end is waited for.
        let wait = map.get("wait").map_or(Some(true), |node| self.reader.boolean(node, "`wait`"));
        Some(Child { saga: saga?, version, input, wait: wait? })
    }
}
