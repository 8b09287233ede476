//! A call, the http `with`, and everything that belongs to one: `with`, `classify`, `on_unknown`, `compensate`,
//! `idempotency`; and `emit`.

use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{CallTemplate, KeyPlace};
use super::reader::{At, Map, listed, shorten};
use super::yaml::{Node, Yaml};
use crate::expression::{Root, TextTemplate};
use crate::id::{EventType, ServiceName};
use crate::openapi::{Answers, UNKNOWN};
use crate::service::Protocol;
use crate::time::Span;

/// What a step's expressions may name, going forward.
pub(super) const FORWARD: &[Root] = &[Root::Input, Root::Event, Root::Steps, Root::Step, Root::Saga];
/// The same with the answer in hand.
pub(super) const WITH_RESULT: &[Root] = &[Root::Result, Root::Input, Root::Event, Root::Steps, Root::Step, Root::Saga];
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

/// Whose `with` it is.
#[derive(Clone, Copy)]
enum Form {
    Http,
    /// Http, by the operation's id in an OpenAPI document.
    Operation,
    Graphql,
    Nats,
    Grpc,
    Soap,
}

impl Form {
    fn protocol(self) -> Protocol {
        match self {
            Self::Http | Self::Operation => Protocol::Http,
            Self::Graphql => Protocol::Graphql,
            Self::Nats => Protocol::Nats,
            Self::Grpc => Protocol::Grpc,
            Self::Soap => Protocol::Soap,
        }
    }
}

/// A `with`, and where it stands.
pub(super) struct Placement<'a> {
    pub service: ServiceName,
    pub with: &'a Node,
    pub roots: &'a [Root],
    pub at: At,
}

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
        let form = self.with_form(with, service.as_ref())?;
        let place = Placement { service: service?, with, roots, at };
        match form {
            Form::Http => self.http(&place),
            Form::Operation => self.operation(&place),
            Form::Graphql => self.graphql(&place),
            Form::Nats => self.nats(&place),
            Form::Grpc => self.grpc(&place),
            Form::Soap => self.soap(&place),
        }
    }

    /// Finds out which protocol's `with` this is, by what stands in it: a stored file must mean the same
    /// whatever the configuration says by then. When a file is loaded, it must be the service's.
    fn with_form(&mut self, with: &Node, service: Option<&ServiceName>) -> Option<Form> {
        let Yaml::Mapping(entries) = &with.value else {
            self.reader.shape(with, "a mapping");
            return None;
        };
        let has = |key: &str| entries.iter().any(|entry| entry.key == key);
        let full_name = |entry: &super::yaml::Entry| {
            entry.key == "method" && matches!(&entry.value.value, Yaml::Scalar(scalar) if scalar.text.contains('/'))
        };
        let form = if has("message") || has("metadata") || entries.iter().any(full_name) {
            Form::Grpc
        } else if has("method") || has("path") {
            Form::Http
        } else if has("action") {
            Form::Soap
        } else if has("subject") || has("data") {
            Form::Nats
        } else if has("query") || has("variables") {
            Form::Graphql
        } else if has("operation") || has("parameters") {
            Form::Operation
        } else {
            match service.and_then(|service| self.protocol(service)) {
                Some(Protocol::Graphql) => Form::Graphql,
                Some(Protocol::Nats) => Form::Nats,
                Some(Protocol::Grpc) => Form::Grpc,
                Some(Protocol::Soap) => Form::Soap,
                Some(Protocol::Http) | None => Form::Http,
            }
        };
        let spoken = service.and_then(|service| Some((service, self.protocol(service)?)));
        if let Some((service, spoken)) = spoken
            && spoken != form.protocol()
        {
            let message = format!(
                "the service `{service}` speaks {}, and this is a call over {}",
                spoken.as_str(),
                form.protocol().as_str()
            );
            let help = match spoken {
                Protocol::Http => "write `with: { method, path, … }`, or say `protocol` at the service",
                Protocol::Graphql => "write `with: { query, variables }`",
                Protocol::Nats => "write `with: { subject, data }`",
                Protocol::Grpc => "write `with: { method: PACKAGE.SERVICE/METHOD, message }`",
                Protocol::Soap => "write `with: { action, body }`",
            };
            self.reader.find(Finding::new("S027", self.reader.first_line(&with.span), message).help(help));
            return None;
        }
        Some(form)
    }

    fn http(&mut self, place: &Placement<'_>) -> Option<CallTemplate> {
        let Placement { service, with, roots, at } = place;
        let (roots, at) = (*roots, *at);
        let with = self.reader.mapping(with, "`with`", &["method", "path", "query", "headers", "body"], &[])?;
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
        let method = method?;
        let call = CallTemplate {
            service: service.clone(),
            protocol: Protocol::Http,
            reads: matches!(method.as_str(), "GET" | "HEAD"),
            method,
            path: path?,
            query: query?,
            headers: headers?,
            body,
        };
        if let Some(node) = with.get("path") {
            self.check_operation(&call, node);
        }
        Some(call)
    }

    /// Says so where the service's OpenAPI document does not have the operation.
    fn check_operation(&mut self, call: &CallTemplate, path: &Node) {
        let Some(document) = self.openapi(&call.service) else { return };
        if let Answers::NoOperation { nearest } = document.answers(&call.method, &call.path.pattern(UNKNOWN)) {
            let shown = call.path.pattern(UNKNOWN).replace(UNKNOWN, "{}");
            let message =
                format!("the OpenAPI document of `{}` has no {} {}", call.service, call.method, shorten(&shown));
            let help = nearest.map_or_else(
                || "correct the path, or the document".to_owned(),
                |nearest| format!("did you mean `{nearest}`?"),
            );
            self.reader.find(Finding::new("S026", self.reader.first_line(&path.span), message).warning().help(help));
        }
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

    pub(super) fn headers(&mut self, node: &Node, roots: &[Root], at: At) -> Option<Vec<(String, TextTemplate)>> {
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

    pub(super) fn header_name(&mut self, text: &str, span: std::ops::Range<usize>) -> Option<String> {
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
