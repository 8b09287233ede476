//! The file's top level: triggers, input, services, defaults, `finally`, and the order in which all of it
//! is read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::Environment;
use super::diagnostic::{Finding, Severity};
use super::model::{
    Attempts, Block, EmitTemplate, EventTrigger, Finally, InlineService, InputSchema, OnReplay, Part, RetryPolicy,
    SagaDefinition, Step, StepIndex, UndoOrder, WebhookTrigger,
};
use super::policy::{RETRY_KEYS, RetryPatch};
use super::reader::{At, Map, Reader};
use super::schedule::Schedule;
use super::step::Spot;
use super::yaml::{self, Node, Yaml};
use crate::expression::{Root, suggest};
use crate::id::{EventType, Fingerprint, SagaName, ServiceName};
use crate::openapi::OpenApi;
use crate::protobuf::Fields;
use crate::schema::Schema;
use crate::service::{Protocol, ServiceUrl};
use crate::time::Span;

const TOP: &[&str] = &[
    "saga",
    "version",
    "summary",
    "on",
    "input",
    "services",
    "defaults",
    "timeout",
    "lock",
    "undo_order",
    "steps",
    "output",
    "finally",
    "tags",
];
const TRIGGER: &[&str] =
    &["event", "webhook", "every", "cron", "when", "key", "input", "on_replay", "timezone", "catch_up"];
/// What a summary may hold: one line in a list of sagas.
const SUMMARY_BYTES_MAX: usize = 1_000;

/// `defaults:`.
#[derive(Default)]
pub(super) struct Defaults {
    pub timeout: Option<Span>,
    pub retry: RetryPatch,
    pub undo: RetryPatch,
    pub undo_timeout: Option<Span>,
}

/// `on:`.
#[derive(Default)]
struct Triggers {
    events: Vec<EventTrigger>,
    webhooks: Vec<WebhookTrigger>,
    schedules: Vec<Schedule>,
}

/// Where a step's parts stand, for messages.
#[derive(Clone)]
pub(super) struct Placed {
    pub id: Range<usize>,
    pub kind: Range<usize>,
    /// The last on its path.
    pub last: bool,
}

/// How strictly names outside the file are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outside {
    /// Services and event types must exist.
    Known,
    /// The definition of a run in flight: what it named may be gone since.
    Any,
}

pub(super) struct Loader<'e> {
    pub reader: Reader<'e>,
    pub environment: &'e Environment<'e>,
    pub outside: Outside,
    pub defaults: Defaults,
    pub services: BTreeMap<ServiceName, InlineService>,
    pub steps: Vec<Step>,
    pub blocks: Vec<Block>,
    pub places: Vec<Placed>,
    /// Ids by where they stand.
    pub ids: BTreeMap<String, usize>,
    /// Ids of steps that could not be read at all.
    pub unread: BTreeSet<String>,
    /// Steps whose action could not be read.
    pub broken: BTreeSet<StepIndex>,
    /// Steps that are pivots because of the sagas that they run.
    pub resolved: BTreeSet<String>,
    /// The reading has passed the pivot on this path.
    pub after_pivot: bool,
    /// The innermost kind of step around in which no pivot may stand.
    pub no_pivot: Option<&'static str>,
}

/// Reads a file.
pub(super) fn read(
    file: &str,
    text: &str,
    environment: &Environment<'_>,
    outside: Outside,
) -> (Option<SagaDefinition>, Vec<Finding>) {
    let (tree, findings) = yaml::parse(text);
    let Some(tree) = tree else {
        let nothing = Finding::new("S009", 0..0, "the file is empty").help("a saga begins with `saga: NAME`");
        return (None, if findings.is_empty() { vec![nothing] } else { findings });
    };
    let mut loader = Loader {
        reader: Reader::new(text, findings),
        environment,
        outside,
        defaults: Defaults::default(),
        services: BTreeMap::new(),
        steps: Vec::new(),
        blocks: Vec::new(),
        places: Vec::new(),
        ids: BTreeMap::new(),
        unread: BTreeSet::new(),
        broken: BTreeSet::new(),
        resolved: super::outline::pivots(text),
        after_pivot: false,
        no_pivot: None,
    };
    let definition = loader.file(file, text, &tree);
    let findings = loader.reader.findings;
    let refused = findings.iter().any(|finding| finding.severity == Severity::Error);
    (definition.filter(|_| !refused), findings)
}

impl Loader<'_> {
    fn file(&mut self, file: &str, text: &str, tree: &Node) -> Option<SagaDefinition> {
        let map = self.reader.mapping(tree, "a saga file", TOP, &[])?;
        let name = self.reader.required(map, "a saga file", "saga", "name it: `saga: order-fulfilment`");
        let name = name.and_then(|node| self.reader.parsed(node, "a saga's name", "S010", SagaName::parse));
        let version = map.get("version").map_or(Some(1), |node| self.reader.integer(node, "`version`", 1, 1_000_000));
        let summary = map.get("summary").and_then(|node| self.summary(node));
        if let Some(node) = map.get("services") {
            self.inline_services(node);
        }
        if let Some(node) = map.get("defaults") {
            self.read_defaults(node);
        }
        let words = [("reverse", UndoOrder::Reverse), ("parallel", UndoOrder::Parallel)];
        let undo_order = map.get("undo_order").and_then(|node| self.reader.word(node, "`undo_order`", &words));
        let on = map.get("on").map_or_else(Triggers::default, |node| self.triggers(node));
        let input_schema = map.get("input").and_then(|node| self.input_schema(node));
        let timeout = map.get("timeout").and_then(|node| self.reader.duration(node, "`timeout`"));
        let lock = map
            .get("lock")
            .and_then(|node| self.reader.text_template(node, "`lock`", &[Root::Input, Root::Event], At::Outside));
        let steps = self.reader.required(map, "a saga file", "steps", "a list of steps");
        let top = Spot { owner: None, items: 0, depth: 0, last: true };
        if let Some(node) = steps {
            self.block(node, Part::Root, "", top);
        }
        let output = map.get("output").and_then(|node| {
            self.reader.template(node, &[Root::Input, Root::Event, Root::Steps, Root::Saga], At::Output)
        });
        let finally = map.get("finally").map_or_else(Finally::default, |node| self.finally(node));
        self.read_rules();
        if self.outside == Outside::Known {
            self.protocol_rules(tree);
            self.cache_rules(tree);
            self.type_rules(tree, input_schema.as_ref());
        }
        Some(SagaDefinition {
            name: name?,
            version: version?,
            summary,
            fingerprint: Fingerprint::of(text),
            source: text.into(),
            file: file.to_owned(),
            triggers: on.events,
            webhooks: on.webhooks,
            schedules: on.schedules,
            input_schema,
            services: std::mem::take(&mut self.services),
            timeout,
            lock,
            ids: self.steps.iter().zip(0..).map(|(step, index)| (step.id.as_str().to_owned(), index)).collect(),
            steps: std::mem::take(&mut self.steps),
            blocks: std::mem::take(&mut self.blocks),
            undo_order: undo_order.unwrap_or(UndoOrder::Reverse),
            settle_attempts: match self.defaults.retry.over(RetryPolicy::FORWARD).attempts {
                Attempts::Count(count) => count,
                // Even where the defaults say so, a failed run comes to rest.
                Attempts::Forever => RetryPolicy::FORWARD_ATTEMPTS,
            },
            output,
            finally,
        })
    }

    fn summary(&mut self, node: &Node) -> Option<String> {
        let text = self.reader.literal(node, "`summary`")?;
        if text.len() > SUMMARY_BYTES_MAX {
            let message = format!("a summary has at most {SUMMARY_BYTES_MAX} bytes");
            self.reader.find(Finding::new("S013", self.reader.first_line(&node.span), message));
        }
        Some(text.trim().to_owned())
    }

    fn inline_services(&mut self, node: &Node) {
        let Yaml::Mapping(entries) = &node.value else {
            self.reader.mapping(node, "`services`", &[], &[]);
            return;
        };
        for entry in entries {
            let name = match ServiceName::parse(&entry.key) {
                Ok(name) => name,
                Err(error) => {
                    self.reader.find(Finding::new("S010", entry.key_span.clone(), error.to_string()));
                    continue;
                }
            };
            if self.outside == Outside::Known && self.environment.services.contains_key(&name) {
                let message = format!("the service `{name}` is defined in the configuration as well");
                let help = "rename one of them; a name means one service";
                self.reader.find(Finding::new("S022", entry.key_span.clone(), message).help(help));
            }
            const CONFIGURED: &[&str] =
                &["circuit", "rate_limit", "auth", "network", "openapi", "descriptor", "connect_timeout", "ca"];
            let Some(map) = self.reader.mapping(
                &entry.value,
                "a service in a saga file",
                &["url", "timeout", "protocol"],
                CONFIGURED,
            ) else {
                continue;
            };
            let url = self.reader.required(map, "a service", "url", "write its address, such as http://127.0.0.1:9101");
            let url = url.and_then(|node| {
                self.reader
                    .parsed(node, "a service's url", "S023", |text| ServiceUrl::parse(text).map(|_| text.to_owned()))
            });
            let timeout = map.get("timeout").and_then(|node| self.reader.duration(node, "`timeout`"));
            let meant =
                url.as_ref().and_then(|url| ServiceUrl::parse(url).ok()).map_or(Protocol::Http, |url| url.protocol());
            let protocol = map.get("protocol").and_then(|node| self.protocol_of(node, meant)).unwrap_or(meant);
            // A service with a bad address is still a known name: one mistake, one diagnostic.
            self.services.insert(name, InlineService { url: url.unwrap_or_default(), timeout, protocol });
        }
    }

    /// Reads the protocol of a service whose address means one already.
    fn protocol_of(&mut self, node: &Node, meant: Protocol) -> Option<Protocol> {
        let words = [
            ("http", Protocol::Http),
            ("graphql", Protocol::Graphql),
            ("nats", Protocol::Nats),
            ("grpc", Protocol::Grpc),
            ("soap", Protocol::Soap),
        ];
        let protocol = self.reader.word(node, "`protocol`", &words)?;
        if !protocol.fits(meant) {
            let message = format!("the address is one of {}, not of {}", meant.as_str(), protocol.as_str());
            let help = "leave `protocol` out, or correct the address";
            self.reader.find(Finding::new("S023", node.span.clone(), message).help(help));
        }
        Some(protocol)
    }

    fn read_defaults(&mut self, node: &Node) {
        let Some(map) = self.reader.mapping(node, "`defaults`", &["timeout", "retry", "compensate"], &[]) else {
            return;
        };
        self.defaults.timeout = map.get("timeout").and_then(|node| self.reader.duration(node, "`timeout`"));
        self.defaults.retry = map.get("retry").map_or_else(RetryPatch::default, |node| self.reader.retry(node));
        let Some(node) = map.get("compensate") else { return };
        // `{retry: {…}, timeout}`, or the retry policy itself.
        let short = match &node.value {
            Yaml::Mapping(entries) => entries.iter().any(|entry| RETRY_KEYS.contains(&entry.key.as_str())),
            Yaml::Scalar(_) | Yaml::Sequence(_) => true,
        };
        if short {
            self.defaults.undo = self.reader.retry(node);
        } else if let Some(map) = self.reader.mapping(node, "`defaults.compensate`", &["retry", "timeout"], &[]) {
            self.defaults.undo = map.get("retry").map_or_else(RetryPatch::default, |node| self.reader.retry(node));
            self.defaults.undo_timeout = map.get("timeout").and_then(|node| self.reader.duration(node, "`timeout`"));
        }
    }

    fn triggers(&mut self, node: &Node) -> Triggers {
        let mut on = Triggers::default();
        for item in self.reader.list(node).unwrap_or_default() {
            let Some(map) = self.reader.mapping(item, "a trigger", TRIGGER, &[]) else { continue };
            if map.has("webhook") {
                on.webhooks.extend(self.webhook(map));
            } else if map.has("every") || map.has("cron") {
                on.schedules.extend(self.schedule(map));
            } else {
                on.events.extend(self.trigger(map));
            }
        }
        on
    }

    fn trigger(&mut self, map: Map<'_>) -> Option<EventTrigger> {
        for key in ["timezone", "catch_up"] {
            if let Some(entry) = map.entry(key) {
                let message = format!("`{key}` has no meaning on a trigger by an event");
                let help = "it belongs to `cron` and `every`";
                self.reader.find(Finding::new("S016", entry.key_span.clone(), message).help(help));
            }
        }
        let event = self.reader.required(map, "a trigger", "event", "write `event: TYPE`, such as order.placed.v2");
        let event = event.and_then(|node| self.event_type(node));
        let roots = &[Root::Event];
        let when = map.get("when").and_then(|node| self.reader.expression(node, roots, At::Outside));
        let key = map.get("key").and_then(|node| self.reader.text_template(node, "`key`", roots, At::Outside));
        let input = map.get("input").and_then(|node| self.reader.template(node, roots, At::Outside));
        let words = [("skip", OnReplay::Skip), ("run", OnReplay::Run)];
        let on_replay = map.get("on_replay").and_then(|node| self.reader.word(node, "`on_replay`", &words));
        Some(EventTrigger { event: event?, when, key, input, on_replay: on_replay.unwrap_or(OnReplay::Skip) })
    }

    fn input_schema(&mut self, node: &Node) -> Option<InputSchema> {
        let map = self.reader.mapping(node, "`input`", &["schema"], &[])?;
        let schema = self.reader.required(map, "`input`", "schema", "an event type, or a JSON Schema")?;
        self.schema_of(schema)
    }

    /// Reads what a schema is given as: an event type, or the schema itself.
    pub(super) fn schema_of(&mut self, schema: &Node) -> Option<InputSchema> {
        match &schema.value {
            Yaml::Mapping(_) => {
                let document = self.reader.json(schema);
                if let Err(found) = Schema::compile(&document) {
                    for mistake in found {
                        let at = at_pointer(schema, &mistake.pointer);
                        let span = self.reader.first_line(&at.span);
                        self.reader.find(Finding::new(
                            "S024",
                            span,
                            format!("this is no JSON Schema: {}", mistake.message),
                        ));
                    }
                }
                Some(InputSchema::Inline(document))
            }
            Yaml::Scalar(_) | Yaml::Sequence(_) => self.event_type(schema).map(InputSchema::Event),
        }
    }

    fn finally(&mut self, node: &Node) -> Finally {
        const KNOWN: &[&str] = &["completed", "compensated", "parked"];
        let Some(map) = self.reader.mapping(node, "`finally`", KNOWN, &[]) else { return Finally::default() };
        let ended = &[Root::Input, Root::Event, Root::Steps, Root::Saga];
        let failed = &[Root::Input, Root::Event, Root::Steps, Root::Saga, Root::Error];
        let parked = &[Root::Input, Root::Event, Root::Steps, Root::Saga, Root::Error, Root::Parked];
        Finally {
            completed: self.finally_emit(map, "completed", ended),
            compensated: self.finally_emit(map, "compensated", failed),
            parked: self.finally_emit(map, "parked", parked),
        }
    }

    fn finally_emit(&mut self, map: Map<'_>, key: &str, roots: &[Root]) -> Option<EmitTemplate> {
        let map = self.reader.mapping(
            map.get(key)?,
            "an entry of `finally`",
            &["emit", "data", "key"],
            &["call", "reply", "run"],
        )?;
        self.reader.required(map, "an entry of `finally`", "emit", "it emits an event: `emit: TYPE`")?;
        self.emit(map, roots, At::Finally)
    }

    pub(super) fn knows_service(&self, name: &ServiceName) -> bool {
        self.outside == Outside::Any || self.environment.services.contains_key(name)
    }

    pub(super) fn service_names(&self) -> Vec<String> {
        let inline = self.services.keys();
        inline.chain(self.environment.services.keys()).map(|name| name.as_str().to_owned()).collect()
    }

    /// Returns what a service says of its answers. A run in flight keeps the file that it began with, whatever
    /// documents say by then.
    pub(super) fn openapi(&self, name: &ServiceName) -> Option<Arc<OpenApi>> {
        let known = self.environment.services.get(name).filter(|_| self.outside == Outside::Known)?;
        known.openapi.clone()
    }

    /// Returns how a service is spoken to; none where that is not known any more.
    pub(super) fn protocol(&self, name: &ServiceName) -> Option<Protocol> {
        match self.services.get(name) {
            Some(inline) => Some(inline.protocol),
            None if self.outside == Outside::Any => None,
            None => self.environment.services.get(name).map(|info| info.protocol),
        }
    }

    /// Returns the document that says what the operations of a run in flight are, or of a file that is loaded.
    pub(super) fn operations(&self, name: &ServiceName) -> Option<Arc<OpenApi>> {
        self.environment.services.get(name)?.openapi.clone()
    }

    /// Returns what a method takes; none where nothing is known of the service's methods, or it is a run in flight,
    /// which keeps the file that it began with.
    pub(super) fn method_of(
        &self,
        service: &ServiceName,
        method: &str,
    ) -> Option<Result<Fields, (String, Option<String>)>> {
        let known = self.environment.services.get(service).filter(|_| self.outside == Outside::Known)?;
        Some(known.descriptor.as_ref()?.method(method).map(|method| method.fields()))
    }

    /// True for the stored definition of a run in flight.
    pub(super) fn is_stored(&self) -> bool {
        self.outside == Outside::Any
    }

    pub(super) fn service_timeout(&self, name: &ServiceName) -> Option<Span> {
        match self.services.get(name) {
            Some(inline) => inline.timeout,
            None => self.environment.services.get(name).and_then(|info| info.timeout),
        }
    }

    /// Returns what to do about an event type without a schema; none if it has one.
    pub(super) fn unknown_type(&self, event: &EventType) -> Option<String> {
        if self.outside == Outside::Any || self.environment.schemas.knows(event) {
            return None;
        }
        let all = self.environment.schemas.all();
        let versions: Vec<&str> =
            all.iter().filter(|known| known.name() == event.name()).map(EventType::as_str).collect();
        if !versions.is_empty() {
            return Some(format!("there is {}", versions.join(", ")));
        }
        Some(match suggest(event.as_str(), all.iter().map(EventType::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add schemas/{}/v{}.json", event.name(), event.version()),
        })
    }
}

/// Finds what a JSON pointer points at, or the nearest that there is.
pub(super) fn at_pointer<'n>(node: &'n Node, pointer: &str) -> &'n Node {
    let mut at = node;
    for token in pointer.split('/').skip(1) {
        let key = token.replace("~1", "/").replace("~0", "~");
        let next = match &at.value {
            Yaml::Mapping(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            Yaml::Sequence(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            Yaml::Scalar(_) => None,
        };
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    at
}

/// Returns every word of the top level and of triggers, for the test of the reference.
#[cfg(test)]
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    [TOP, TRIGGER, super::policy::RETRY_KEYS].into_iter().flatten().copied()
}
