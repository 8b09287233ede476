//! A call over http and everything that belongs to one: `with`, `classify`, `on_unknown`, `compensate`,
//! `idempotency`; and `emit`.

use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{
    Attempts, CallTemplate, Check, Classify, Compensate, EmitTemplate, Idempotency, KeyPlace, OnExhausted, OnUnknown,
    RetryPolicy, UndoCall, UndoEmit, UnknownElse,
};
use super::policy::RetryPatch;
use super::reader::{At, Map, listed, shorten};
use super::yaml::{Node, Yaml};
use crate::expression::{Root, TextTemplate};
use crate::id::{EventType, ServiceName};
use crate::time::Span;

/// What a step's expressions may name, going forward.
pub(super) const FORWARD: &[Root] = &[Root::Input, Root::Event, Root::Steps, Root::Step, Root::Saga];
/// The same with the answer in hand.
pub(super) const WITH_RESULT: &[Root] = &[Root::Result, Root::Input, Root::Event, Root::Steps, Root::Step, Root::Saga];
const UNDO: &[Root] = &[Root::Forward, Root::Input, Root::Event, Root::Steps, Root::Step, Root::Error, Root::Saga];
const UNDO_RESULT: &[Root] =
    &[Root::Result, Root::Forward, Root::Input, Root::Event, Root::Steps, Root::Step, Root::Error, Root::Saga];

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Headers that every call carries from us, or that the connection owns.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "correlation-id",
    "host",
    "idempotency-key",
    "saga-direction",
    "saga-forward-key",
    "saga-run",
    "saga-step",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
];
/// What other protocols have in `with`.
const WITH_LATER: &[&str] =
    &["operation", "parameters", "message", "metadata", "variables", "action", "subject", "data"];

impl Loader<'_> {
    /// Reads `call` and `with`. `own` is the step's service, the default inside `check` and
    /// `compensate`.
    pub(super) fn call(
        &mut self,
        map: Map<'_>,
        what: &str,
        own: Option<&ServiceName>,
        roots: &[Root],
        at: At,
    ) -> Option<CallTemplate> {
        let service = match (map.get("call"), own) {
            (Some(node), _) => self.service(node),
            (None, Some(own)) => Some(own.clone()),
            (None, None) => {
                let help = "name the service: `call: SERVICE`";
                self.reader.required(map, what, "call", help);
                None
            }
        };
        let with = self.reader.required(map, what, "with", "write `with: { method: POST, path: /… }`")?;
        let with = self.reader.mapping(with, "`with`", &["method", "path", "query", "headers", "body"], WITH_LATER)?;
        let method = self.reader.required(with, "`with`", "method", "write GET, POST, PUT, PATCH or DELETE");
        let method = method.and_then(|node| self.method(node));
        let path = self.reader.required(
            with,
            "`with`",
            "path",
            "write a path such as /orders; it is appended to the service's url",
        );
        let path = path.and_then(|node| self.path(node, roots, at));
        let query = with.get("query").map_or(Some(Vec::new()), |node| self.query(node, roots, at));
        let headers = with.get("headers").map_or(Some(Vec::new()), |node| self.headers(node, roots, at));
        let body = match with.entry("body") {
            Some(entry) => {
                if method.as_deref().is_some_and(|method| matches!(method, "GET" | "HEAD")) {
                    let message = "a GET or HEAD has no body";
                    let help = "put it into `query`, or use POST";
                    self.reader.find(Finding::new("S052", entry.key_span.clone(), message).help(help));
                }
                Some(self.reader.template(&entry.value, roots, at)?)
            }
            None => None,
        };
        Some(CallTemplate { service: service?, method: method?, path: path?, query: query?, headers: headers?, body })
    }

    fn method(&mut self, node: &Node) -> Option<String> {
        let text = self.reader.literal(node, "`method`")?;
        if METHODS.contains(&text) {
            return Some(text.to_owned());
        }
        let upper = text.to_ascii_uppercase();
        let help = match crate::expression::suggest(&upper, METHODS.iter().copied()) {
            _ if METHODS.contains(&upper.as_str()) => format!("write {upper}"),
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write {}", listed(METHODS)),
        };
        self.reader
            .find(Finding::new("S052", node.span.clone(), format!("`{}` is no method", shorten(text))).help(help));
        None
    }

    /// Reads a path: the host never comes from data, so it begins with a literal `/`.
    fn path(&mut self, node: &Node, roots: &[Root], at: At) -> Option<TextTemplate> {
        let template = self.reader.text_template(node, "a path", roots, at)?;
        let Yaml::Scalar(scalar) = &node.value else { return None };
        let mut refuse = |from: usize, to: usize, message: String, help: &str| {
            let span = self.reader.inside(node, &scalar.text, from, to);
            self.reader.find(Finding::new("S050", span, message).help(help));
        };
        let text = scalar.text.as_str();
        if !text.starts_with('/') {
            let help = if text.contains("://") {
                "name a service for the host; only the path stands here"
            } else {
                "begin with a literal /"
            };
            refuse(0, text.len(), "a path begins with `/`".to_owned(), help);
            return None;
        }
        if text.starts_with("//") {
            refuse(0, 2, "a path cannot begin with `//`: that names a host".to_owned(), "begin with a single /");
            return None;
        }
        let mut found = None;
        for (offset, literal) in template.literals() {
            for (index, c) in literal.char_indices() {
                let help = match c {
                    '{' | '}' => "an expression is written ${ … }",
                    '#' => "a fragment never reaches the service; leave it out",
                    ' ' => "write %20",
                    c if c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/?%".contains(c) => continue,
                    _ => "percent-encode it",
                };
                found = Some((offset + index, c, help));
                break;
            }
        }
        if let Some((offset, c, help)) = found {
            refuse(offset, offset + c.len_utf8(), format!("`{}` cannot stand in a path", c.escape_debug()), help);
            return None;
        }
        let path = template.literal_prefix().split('?').next().unwrap_or_default();
        let whole = template.as_literal().is_some() || template.literal_prefix().contains('?');
        let segments: Vec<&str> = path.split('/').collect();
        let complete = if whole { segments.len() } else { segments.len() - 1 };
        if segments[..complete].iter().any(|segment| matches!(*segment, "." | "..")) {
            refuse(0, path.len(), "a part of a path cannot be `.` or `..`".to_owned(), "write the path out");
            return None;
        }
        Some(template)
    }

    fn query(&mut self, node: &Node, roots: &[Root], at: At) -> Option<Vec<(String, TextTemplate)>> {
        let Yaml::Mapping(entries) = &node.value else {
            self.reader.mapping(node, "`query`", &[], &[]);
            return None;
        };
        let mut out = Vec::new();
        for entry in entries {
            let simple = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]:".contains(&byte);
            if entry.key.is_empty() || !entry.key.bytes().all(simple) {
                let message = format!("`{}` is no name of a query parameter", shorten(&entry.key));
                let help = "allowed are a-z, A-Z, 0-9 and - . _ ~ [ ] :";
                self.reader.find(Finding::new("S050", entry.key_span.clone(), message).help(help));
            }
            out.push((entry.key.clone(), self.reader.text_template(&entry.value, "a query value", roots, at)?));
        }
        Some(out)
    }

    fn headers(&mut self, node: &Node, roots: &[Root], at: At) -> Option<Vec<(String, TextTemplate)>> {
        let Yaml::Mapping(entries) = &node.value else {
            self.reader.mapping(node, "`headers`", &[], &[]);
            return None;
        };
        let mut out: Vec<(String, TextTemplate)> = Vec::new();
        for entry in entries {
            let Some(name) = self.header_name(&entry.key, entry.key_span.clone()) else { continue };
            if out.iter().any(|(known, _)| *known == name) {
                let message = format!("the header `{name}` stands here twice");
                self.reader.find(Finding::new("S051", entry.key_span.clone(), message));
            }
            if let Some(value) = self.reader.text_template(&entry.value, "a header's value", roots, at) {
                if let Some(c) =
                    value.as_literal().and_then(|text| text.chars().find(|c| !matches!(c, ' '..='~' | '\t')))
                {
                    let message = format!("a header's value cannot hold {}", c.escape_default());
                    self.reader.find(Finding::new("S051", self.reader.first_line(&entry.value.span), message));
                }
                out.push((name, value));
            }
        }
        Some(out)
    }

    fn header_name(&mut self, text: &str, span: std::ops::Range<usize>) -> Option<String> {
        let name = text.to_ascii_lowercase();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let (message, help) = if name.is_empty() || !name.bytes().all(token) {
            (format!("`{}` is no name of a header", shorten(text)), "letters, digits and `-`".to_owned())
        } else if OWN_HEADERS.contains(&name.as_str()) {
            let help = if name == "idempotency-key" {
                "use `idempotency: { header, value }` for a key of your own"
            } else {
                "leave it out"
            };
            (format!("the header `{name}` is set by the engine"), help.to_owned())
        } else {
            return Some(name);
        };
        self.reader.find(Finding::new("S051", span, message).help(help));
        None
    }

    /// Reads `classify`.
    pub(super) fn classify(&mut self, node: &Node, at: At) -> Classify {
        const KNOWN: &[&str] = &["proof", "unknown", "refused", "retry", "done"];
        let Some(map) = self.reader.mapping(node, "`classify`", KNOWN, &[]) else { return Classify::default() };
        let mut read = |key: &str| map.get(key).and_then(|node| self.reader.expression(node, WITH_RESULT, at));
        Classify {
            proof: read("proof"),
            unknown: read("unknown"),
            refused: read("refused"),
            retry: read("retry"),
            done: read("done"),
        }
    }

    /// Reads `on_unknown`.
    pub(super) fn on_unknown(&mut self, node: &Node, own: Option<&ServiceName>, at: At) -> OnUnknown {
        let mut out = OnUnknown { check: None, otherwise: UnknownElse::Compensate };
        let Some(map) = self.reader.mapping(node, "`on_unknown`", &["check", "else"], &[]) else { return out };
        if let Some(node) = map.get("else") {
            let words = [("compensate", UnknownElse::Compensate), ("park", UnknownElse::Park)];
            out.otherwise = self.reader.word(node, "`else`", &words).unwrap_or(UnknownElse::Compensate);
        }
        if let Some(node) = map.get("check") {
            out.check = self.check(node, own, at);
        }
        out
    }

    fn check(&mut self, node: &Node, own: Option<&ServiceName>, at: At) -> Option<Check> {
        const KNOWN: &[&str] = &["call", "with", "happened", "output", "conclusive", "retry", "timeout"];
        let map = self.reader.mapping(node, "`check`", KNOWN, &[])?;
        let call = self.call(map, "`check`", own, FORWARD, at);
        let happened = self.reader.required(
            map,
            "`check`",
            "happened",
            "write an expression on $result that is true if the effect took place",
        );
        let happened = happened.and_then(|node| self.reader.expression(node, WITH_RESULT, at));
        let output = match map.get("output") {
            Some(node) => Some(self.output_of(node, at)?),
            None => None,
        };
        let conclusive = map.get("conclusive").and_then(|node| self.reader.boolean(node, "`conclusive`"));
        let retry = map.get("retry").map_or(RetryPatch::default(), |node| self.reader.retry(node));
        let timeout = map.get("timeout").and_then(|node| self.reader.duration(node, "`timeout`"));
        let call = call?;
        let timeout = self.attempt_timeout(timeout, Some(&call.service), None);
        let retry = retry.over(self.defaults.retry.over(RetryPolicy::FORWARD));
        Some(Check { call, happened: happened?, output, conclusive: conclusive.unwrap_or(false), retry, timeout })
    }

    /// Reads `compensate`.
    pub(super) fn compensate(&mut self, node: &Node, own: Option<&ServiceName>, at: At) -> Option<Compensate> {
        if let Yaml::Scalar(scalar) = &node.value {
            if scalar.text == "none" {
                return Some(Compensate::None);
            }
            let message = format!("`compensate` cannot be `{}`", shorten(&scalar.text));
            let help = "write `none` if nothing needs undoing, or a call: `compensate: { with: … }`";
            self.reader.find(Finding::new("S013", node.span.clone(), message).help(help));
            return None;
        }
        const KNOWN: &[&str] =
            &["call", "with", "emit", "data", "key", "if", "retry", "timeout", "ok", "on_exhausted", "on_refused"];
        let map = self.reader.mapping(node, "`compensate`", KNOWN, &["run", "reply", "input", "version"])?;
        let At::Forward(step) = at else { return None };
        let at = At::Undo { step, conditional: map.has("if") };
        let condition = match map.get("if") {
            Some(node) => Some(self.reader.expression(node, UNDO, At::Undo { step, conditional: true })?),
            None => None,
        };
        let on_refused =
            map.get("on_refused").and_then(|node| self.reader.boolean(node, "`on_refused`")).unwrap_or(false);
        if map.has("emit") {
            for key in ["call", "with", "retry", "timeout", "ok", "on_exhausted"] {
                if let Some(entry) = map.entry(key) {
                    let message = format!("`{key}` has no meaning beside `emit`: an event is stored, not called");
                    self.reader.find(Finding::new("S016", entry.key_span.clone(), message));
                }
            }
            let emit = self.emit(map, UNDO, at)?;
            return Some(Compensate::Emit(Box::new(UndoEmit { emit, condition, on_refused })));
        }
        let call = self.call(map, "`compensate`", own, UNDO, at);
        let ok = map.get("ok").map(|node| self.reader.expression(node, UNDO_RESULT, at));
        let retry = map.get("retry").map_or(RetryPatch::default(), |node| self.reader.retry(node));
        let timeout = map.get("timeout").and_then(|node| self.reader.duration(node, "`timeout`"));
        let mut retry = retry.over(self.defaults.undo.over(RetryPolicy::UNDO));
        let words = [("park", Some(OnExhausted::Park)), ("skip", Some(OnExhausted::Skip)), ("forever", None)];
        let on_exhausted =
            match map.get("on_exhausted").and_then(|node| self.reader.word(node, "`on_exhausted`", &words)) {
                Some(None) => {
                    retry.attempts = Attempts::Forever;
                    OnExhausted::Park
                }
                Some(Some(word)) => word,
                None => OnExhausted::Park,
            };
        let call = call?;
        let timeout = self.attempt_timeout(timeout, Some(&call.service), self.defaults.undo_timeout);
        let ok = match ok {
            Some(ok) => Some(ok?),
            None => None,
        };
        Some(Compensate::Call(Box::new(UndoCall { call, condition, retry, timeout, ok, on_exhausted, on_refused })))
    }

    /// Reads `emit`, `data` and `key`.
    pub(super) fn emit(&mut self, map: Map<'_>, roots: &[Root], at: At) -> Option<EmitTemplate> {
        let event = map.get("emit").and_then(|node| self.event_type(node));
        let data = match map.get("data") {
            Some(node) => self.reader.template(node, roots, at),
            None => Some(crate::expression::Template::literal(&crate::payload::Payload::null())),
        };
        let key = match map.get("key") {
            Some(node) => Some(self.reader.text_template(node, "`key`", roots, at)?),
            None => None,
        };
        Some(EmitTemplate { event: event?, data: data?, key })
    }

    /// Reads `idempotency`.
    pub(super) fn idempotency(&mut self, node: &Node, at: At) -> Option<Idempotency> {
        let map = self.reader.mapping(node, "`idempotency`", &["header", "query", "body", "value"], &[])?;
        let mut places = Vec::new();
        for key in ["header", "query", "body"] {
            let Some(entry) = map.entry(key) else { continue };
            let text = self.reader.literal(&entry.value, "the key's place")?;
            places.push((
                entry,
                match key {
                    "header" if text.eq_ignore_ascii_case("idempotency-key") => {
                        KeyPlace::Header("idempotency-key".to_owned())
                    }
                    "header" => KeyPlace::Header(self.header_name(text, entry.value.span.clone())?),
                    "query" => KeyPlace::Query(text.to_owned()),
                    _ => KeyPlace::Body(text.to_owned()),
                },
            ));
        }
        if let [_, (second, _), ..] = places.as_slice() {
            let message = "the idempotency key has one place";
            self.reader
                .find(Finding::new("S013", second.key_span.clone(), message).help("keep `header`, `query` or `body`"));
        }
        let value = match map.get("value") {
            Some(node) => Some(self.reader.text_template(node, "`value`", FORWARD, at)?),
            None => None,
        };
        let place = places.into_iter().next().map_or_else(default_key_place, |(_, place)| place);
        Some(Idempotency { place, value })
    }

    /// Reads `output`: a template, or `{as: …}`.
    pub(super) fn output_of(&mut self, node: &Node, at: At) -> Option<crate::expression::Template> {
        if let Yaml::Mapping(entries) = &node.value
            && !entries.is_empty()
            && entries.iter().all(|entry| matches!(entry.key.as_str(), "as" | "schema"))
        {
            let map = self.reader.mapping(node, "`output`", &["as"], &["schema"])?;
            return self.reader.template(map.get("as")?, WITH_RESULT, at);
        }
        self.reader.template(node, WITH_RESULT, at)
    }

    /// Reads a service's name and finds it.
    pub(super) fn service(&mut self, node: &Node) -> Option<ServiceName> {
        if let Yaml::Mapping(_) = &node.value {
            let message = "`call` names a service of the configuration";
            let help = "write `call: SERVICE` and put the address under `services:`";
            let span = self.reader.first_line(&node.span);
            self.reader.find(Finding::new("S006", span, message).help(help));
            return None;
        }
        let name = self.reader.parsed(node, "a service", "S010", ServiceName::parse)?;
        if self.services.contains_key(&name) || self.knows_service(&name) {
            return Some(name);
        }
        let known: Vec<String> = self.service_names();
        let help = match crate::expression::suggest(name.as_str(), known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "add it under `services:` in backstitch.yaml or in this file".to_owned(),
            None => {
                format!("known are {}; add it under `services:` in backstitch.yaml or in this file", known.join(", "))
            }
        };
        self.reader.find(Finding::new("S020", node.span.clone(), format!("there is no service `{name}`")).help(help));
        None
    }

    /// Reads an event type and finds its schema.
    pub(super) fn event_type(&mut self, node: &Node) -> Option<EventType> {
        let event = self.reader.parsed(node, "an event type", "S010", EventType::parse)?;
        if let Some(help) = self.unknown_type(&event) {
            let message = format!("there is no schema for `{event}`");
            self.reader.find(Finding::new("S021", node.span.clone(), message).help(help));
            return None;
        }
        Some(event)
    }

    /// Returns the timeout of one attempt: its own, else the service's, else the file's, else 30 s.
    pub(super) fn attempt_timeout(
        &self,
        own: Option<Span>,
        service: Option<&ServiceName>,
        level: Option<Span>,
    ) -> Span {
        own.or_else(|| service.and_then(|service| self.service_timeout(service)))
            .or(level)
            .or(self.defaults.timeout)
            .unwrap_or(DEFAULT_TIMEOUT)
    }
}

/// What most gateways allow a request.
const DEFAULT_TIMEOUT: Span = Span::from_secs(30);

pub(super) fn default_key_place() -> KeyPlace {
    KeyPlace::Header("idempotency-key".to_owned())
}
