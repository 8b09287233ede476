//! Steps that wait for somebody: `await`, `ask`, and `emit` with `reply`.

use super::call::{FORWARD, WITH_RESULT};
use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{Action, Ask, Await, AwaitMode, Match, Reply, Since, StepIndex};
use super::reader::{At, Map};
use super::step::Spot;
use super::yaml::{Node, Yaml};
use crate::expression::Root;
use crate::id::EventType;
use crate::schema::Schema;

/// Types that one step waits for.
const TYPES_MAX: usize = 32;
/// What a CloudEvent has at its root.
const ATTRIBUTES: &[&str] = &[
    "data",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "correlationid",
    "causationid",
    "partitionkey",
    "traceparent",
    "tracestate",
    "specversion",
    "dataschema",
    "datacontenttype",
    "sagarun",
];

impl Loader<'_> {
    pub(super) fn await_step(&mut self, map: Map<'_>, index: StepIndex, path: &str, spot: Spot) -> Option<Action> {
        let at = At::Forward(index);
        let node = map.get("await")?;
        let (types, mode) = if let Yaml::Mapping(_) = &node.value {
            let choice = self.reader.mapping(node, "`await`", &["any", "all"], &[])?;
            match (choice.get("any"), choice.entry("all")) {
                (Some(any), None) => (self.types(any), AwaitMode::First),
                (None, Some(all)) => (self.types(&all.value), AwaitMode::All),
                (_, second) => {
                    let span =
                        second.map_or_else(|| self.reader.first_line(&node.span), |entry| entry.key_span.clone());
                    let message = "`await` has an event type, `any: [ … ]` or `all: [ … ]`";
                    self.reader.find(Finding::new("S014", span, message));
                    return None;
                }
            }
        } else {
            (self.event_type(node).map(|event| vec![event]), AwaitMode::First)
        };
        let matching = match map.get("where") {
            Some(node) => self.matching(node, FORWARD, at),
            None => Some(Vec::new()),
        };
        let words = [("start", Since::Start), ("step", Since::Step)];
        let since = map.get("since").map_or(Some(Since::Start), |node| self.reader.word(node, "`since`", &words));
        let timeout = map.get("timeout").map(|node| self.reader.duration(node, "`timeout`"));
        self.reads_result(map, index);
        let on_timeout = self.on_timeout(map, index, path, spot);
        let timeout = match timeout {
            Some(timeout) => Some(timeout?),
            None => None,
        };
        Some(Action::Await(Await {
            types: types?,
            mode,
            matching: matching?,
            since: since?,
            timeout,
            on_timeout: on_timeout?,
        }))
    }

    /// Reads `output` and `expect` of a step whose result is what came.
    fn reads_result(&mut self, map: Map<'_>, index: StepIndex) {
        let at = At::Forward(index);
        let expect = map.get("expect").and_then(|node| self.reader.expression(node, WITH_RESULT, at));
        let (output, output_schema) = map.get("output").map_or((None, None), |node| self.output_of(node, at));
        let step = &mut self.steps[index as usize];
        step.expect = expect;
        step.output = output;
        step.output_schema = output_schema;
    }

    /// Reads an event type or a list of them.
    fn types(&mut self, node: &Node) -> Option<Vec<EventType>> {
        let Yaml::Sequence(items) = &node.value else {
            return self.event_type(node).map(|event| vec![event]);
        };
        if items.is_empty() || items.len() > TYPES_MAX {
            let message = format!("from 1 to {TYPES_MAX} event types belong here, not {}", items.len());
            self.reader.find(Finding::new("S013", self.reader.first_line(&node.span), message));
            return None;
        }
        let mut types = Vec::with_capacity(items.len());
        for item in items {
            let event = self.event_type(item)?;
            if types.contains(&event) {
                let message = format!("`{event}` stands here twice");
                self.reader.find(Finding::new("S013", item.span.clone(), message));
                return None;
            }
            types.push(event);
        }
        Some(types)
    }

    /// Reads `where`.
    fn matching(&mut self, node: &Node, roots: &[Root], at: At) -> Option<Vec<Match>> {
        let Yaml::Mapping(entries) = &node.value else {
            self.reader.mapping(node, "`where`", &[], &[]);
            return None;
        };
        let mut matching = Vec::with_capacity(entries.len());
        for entry in entries {
            let path: Vec<String> = entry.key.split('.').map(str::to_owned).collect();
            if path.iter().any(String::is_empty) {
                let message = format!("`{}` is no path in an event", super::reader::shorten(&entry.key));
                let help = "write the members with a point between them: `data.orderId`";
                self.reader.find(Finding::new("S050", entry.key_span.clone(), message).help(help));
                return None;
            }
            if !ATTRIBUTES.contains(&path[0].as_str()) && !path[0].bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                let message = format!("an event has no `{}`", super::reader::shorten(&path[0]));
                self.reader.find(
                    Finding::new("S050", entry.key_span.clone(), message)
                        .help("its payload is under `data`: `data.orderId`"),
                );
                return None;
            }
            if path.len() == 1
                && let Some(near) = crate::expression::suggest(&path[0], ATTRIBUTES.iter().copied())
                && !ATTRIBUTES.contains(&path[0].as_str())
            {
                let message = format!("an event has no `{}`", path[0]);
                self.reader.find(
                    Finding::new("S050", entry.key_span.clone(), message).help(format!("did you mean `{near}`?")),
                );
                return None;
            }
            matching.push(Match { path, value: self.reader.template(&entry.value, roots, at)? });
        }
        Some(matching)
    }

    /// Reads `reply` of an `emit`.
    pub(super) fn reply(&mut self, node: &Node, roots: &[Root], at: At) -> Option<Reply> {
        let map = self.reader.mapping(node, "`reply`", &["done", "refused", "where", "timeout"], &[])?;
        let done = self.reader.required(map, "`reply`", "done", "the event type that says that it was done");
        let done = done.and_then(|node| self.types(node));
        let refused = map.get("refused").map_or(Some(Vec::new()), |node| self.types(node));
        let matching = match map.get("where") {
            Some(node) => Some(self.matching(node, roots, at)?),
            None => None,
        };
        let timeout = map.get("timeout").map(|node| self.reader.duration(node, "`timeout`"));
        let timeout = match timeout {
            Some(timeout) => timeout?,
            None => self.attempt_timeout(None, None, None),
        };
        let (done, refused) = (done?, refused?);
        if let Some(both) = done.iter().find(|event| refused.contains(event)) {
            let message = format!("`{both}` cannot say both, done and refused");
            self.reader.find(Finding::new("S013", self.reader.first_line(&node.span), message));
            return None;
        }
        Some(Reply { done, refused, matching, timeout })
    }

    /// Reads an `emit` that goes forward.
    pub(super) fn forward_emit(&mut self, map: Map<'_>, index: StepIndex, at: At) -> Option<Action> {
        let emit = self.emit(map, FORWARD, at);
        if map.has("reply") {
            let retry = self.forward_retry(map, index);
            self.steps[index as usize].retry = retry;
            let on_unknown = map.get("on_unknown").map(|node| self.on_unknown(node, None, at));
            if let Some(on_unknown) = on_unknown {
                self.steps[index as usize].on_unknown = on_unknown;
            }
            self.reads_result(map, index);
        } else {
            for key in ["retry", "on_unknown", "output", "expect"] {
                if let Some(entry) = map.entry(key) {
                    let message = format!("`{key}` has no meaning on an `emit` without `reply`");
                    let help = "an event is stored in one go; with `reply` it is a call over events";
                    self.reader.find(Finding::new("S016", entry.key_span.clone(), message).help(help));
                }
            }
        }
        emit.map(Action::Emit)
    }

    /// Reads an `ask`: its parts beside it, or inside.
    pub(super) fn ask(&mut self, map: Map<'_>, index: StepIndex, path: &str, spot: Spot) -> Option<Action> {
        const KNOWN: &[&str] = &["title", "show", "form", "who", "timeout", "on_timeout"];
        let at = At::Forward(index);
        let node = map.get("ask")?;
        let inner =
            if let Yaml::Mapping(_) = &node.value { self.reader.mapping(node, "`ask`", KNOWN, &[])? } else { map };
        let title = match (&node.value, inner.get("title")) {
            (_, Some(title)) => Some(title),
            (Yaml::Scalar(_), None) => Some(node),
            (_, None) => self.reader.required(inner, "an `ask`", "title", "one line that says what is asked"),
        };
        let title = title.and_then(|node| self.reader.text_template(node, "`title`", FORWARD, at));
        let show = inner.get("show").map(|node| self.reader.template(node, FORWARD, at));
        let form = inner.get("form").map(|node| self.form(node));
        let who = inner.get("who").map_or(Some(Vec::new()), |node| self.words(node, "`who`"));
        let timeout = inner.get("timeout").map(|node| self.reader.duration(node, "`timeout`"));
        self.reads_result(map, index);
        let on_timeout = self.on_timeout(inner, index, path, spot);
        let show = match show {
            Some(show) => Some(show?),
            None => None,
        };
        let form = match form {
            Some(form) => Some(form?),
            None => None,
        };
        let timeout = match timeout {
            Some(timeout) => Some(timeout?),
            None => None,
        };
        Some(Action::Ask(Box::new(Ask { title: title?, show, form, who: who?, timeout, on_timeout: on_timeout? })))
    }

    fn form(&mut self, node: &Node) -> Option<crate::payload::Payload> {
        let schema = self.reader.json(node);
        match Schema::compile(&schema) {
            Ok(_) => Some(schema),
            Err(errors) => {
                for error in errors {
                    let at = super::file::at_pointer(node, &error.pointer);
                    let span = self.reader.first_line(&at.span);
                    self.reader.find(Finding::new("S024", span, error.message));
                }
                None
            }
        }
    }
}
