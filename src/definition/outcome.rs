//! What belongs to a call's outcome: `classify`, `on_unknown`, `compensate`, `output`, `idempotency`; and
//! `emit`, which may stand in a `compensate` as well.

use super::call::{FORWARD, WITH_RESULT, default_key_place};
use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{
    Attempts, Check, Classify, Compensate, EmitTemplate, Idempotency, InputSchema, KeyPlace, OnExhausted, OnUnknown,
    OutputSchema, RetryPolicy, UndoCall, UndoEmit, UndoRun, UnknownElse,
};
use super::policy::RetryPatch;
use super::reader::{AnswerTo, At, Emitted, Map, Shaped, shorten};
use super::yaml::{Node, Yaml};
use crate::expression::{Root, Template};
use crate::id::ServiceName;
use crate::payload::Payload;
use crate::schema::Schema;

/// What an undo may name: `$forward` beside the rest.
const UNDO: &[Root] = &[Root::Forward, Root::Input, Root::Event, Root::Steps, Root::Step, Root::Error, Root::Saga];
const UNDO_RESULT: &[Root] =
    &[Root::Result, Root::Forward, Root::Input, Root::Event, Root::Steps, Root::Step, Root::Error, Root::Saga];

impl Loader<'_> {
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
        self.reader.answers.push((node.span.clone(), AnswerTo::Check));
        self.reader.answers.extend(map.get("output").map(|node| (node.span.clone(), AnswerTo::Checked)));
        let (output, output_schema) = map.get("output").map_or((None, None), |node| self.output_of(node, at));
        let conclusive = map.get("conclusive").and_then(|node| self.reader.boolean(node, "`conclusive`"));
        let timeout = map.get("timeout").and_then(|node| self.reader.duration(node, "`timeout`"));
        let call = call?;
        let timeout = self.attempt_timeout(timeout, Some(&call.service), None);
        let retry = map.get("retry").map_or(RetryPatch::default(), |node| self.reader.retry(node));
        let retry = retry.over(self.defaults.retry.over(RetryPolicy::FORWARD));
        Some(Check {
            call,
            happened: happened?,
            output,
            output_schema,
            conclusive: conclusive.unwrap_or(false),
            retry,
            timeout,
        })
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
        const KNOWN: &[&str] = &[
            "call",
            "with",
            "emit",
            "data",
            "key",
            "reply",
            "run",
            "input",
            "version",
            "if",
            "retry",
            "timeout",
            "ok",
            "on_exhausted",
            "on_refused",
        ];
        let map = self.reader.mapping(node, "`compensate`", KNOWN, &[])?;
        let At::Forward(step) = at else { return None };
        let at = At::Undo { step, conditional: map.has("if") };
        let condition = match map.get("if") {
            Some(node) => Some(self.reader.expression(node, UNDO, At::Undo { step, conditional: true })?),
            None => None,
        };
        let on_refused =
            map.get("on_refused").and_then(|node| self.reader.boolean(node, "`on_refused`")).unwrap_or(false);
        if map.has("run") {
            for key in ["call", "with", "emit", "data", "key", "reply", "retry", "timeout", "ok", "on_exhausted"] {
                if let Some(entry) = map.entry(key) {
                    let message = format!("`{key}` has no meaning beside `run`: the other saga has its own");
                    self.reader.find(Finding::new("S016", entry.key_span.clone(), message));
                }
            }
            let child = self.child(map, UNDO, at)?;
            return Some(Compensate::Run(Box::new(UndoRun { child, condition, on_refused })));
        }
        if map.has("emit") {
            let replied = map.has("reply");
            let without: &[&str] = if replied {
                &["call", "with", "timeout", "ok"]
            } else {
                &["call", "with", "retry", "timeout", "ok", "on_exhausted"]
            };
            for key in without {
                if let Some(entry) = map.entry(key) {
                    let message = format!("`{key}` has no meaning beside `emit`: an event is stored, not called");
                    self.reader.find(Finding::new("S016", entry.key_span.clone(), message));
                }
            }
            let (retry, on_exhausted) = self.undo_retry(map);
            let emit = self.emit(map, UNDO, at)?;
            return Some(Compensate::Emit(Box::new(UndoEmit { emit, condition, retry, on_exhausted, on_refused })));
        }
        let call = self.call(map, "`compensate`", own, UNDO, at);
        let ok = map.get("ok").map(|node| self.reader.expression(node, UNDO_RESULT, at));
        let timeout = map.get("timeout").and_then(|node| self.reader.duration(node, "`timeout`"));
        let (retry, on_exhausted) = self.undo_retry(map);
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
        if let (Some(event), Some(node)) = (&event, map.get("emit")) {
            let emitted = Emitted { event: event.clone(), span: node.span.clone(), data: map.get("data").cloned() };
            self.reader.emitted.push(emitted);
        }
        let data = match map.get("data") {
            Some(node) => self.reader.template(node, roots, at),
            None => Some(Template::literal(&Payload::null())),
        };
        let key = match map.get("key") {
            Some(node) => Some(self.reader.text_template(node, "`key`", roots, at)?),
            None => None,
        };
        let reply = match map.get("reply") {
            Some(node) => Some(Box::new(self.reply(node, roots, at)?)),
            None => None,
        };
        Some(EmitTemplate { event: event?, data: data?, key, reply })
    }

    /// Reads how an undo is tried again, and what follows when that is used up.
    fn undo_retry(&mut self, map: Map<'_>) -> (RetryPolicy, OnExhausted) {
        let retry = map.get("retry").map_or(RetryPatch::default(), |node| self.reader.retry(node));
        let mut retry = retry.over(self.defaults.undo.over(RetryPolicy::UNDO));
        let words = [("park", Some(OnExhausted::Park)), ("skip", Some(OnExhausted::Skip)), ("forever", None)];
        let word = map.get("on_exhausted").and_then(|node| self.reader.word(node, "`on_exhausted`", &words));
        match word {
            Some(None) => {
                retry.attempts = Attempts::Forever;
                (retry, OnExhausted::Park)
            }
            Some(Some(word)) => (retry, word),
            None => (retry, OnExhausted::Park),
        }
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

    /// Reads `output`: a template, or `{as, schema}`.
    pub(super) fn output_of(&mut self, node: &Node, at: At) -> (Option<Template>, Option<OutputSchema>) {
        if let Yaml::Mapping(entries) = &node.value
            && (entries.iter().any(|entry| entry.key == "as")
                || entries.iter().any(|entry| entry.key == "schema") && entries.len() == 1)
            && let Some(map) = self.reader.mapping(node, "`output`", &["as", "schema"], &[])
        {
            let template = map.get("as").and_then(|node| self.reader.template(node, WITH_RESULT, at));
            let schema = map.get("schema").and_then(|node| self.output_schema(node));
            if let (Some(shaped), Some(schema)) = (map.get("as"), &schema) {
                self.reader.shaped.push(Shaped { what: "the output", node: shaped.clone(), schema: schema.source() });
            }
            return (template, schema);
        }
        (self.reader.template(node, WITH_RESULT, at), None)
    }

    fn output_schema(&mut self, node: &Node) -> Option<OutputSchema> {
        match self.schema_of(node)? {
            InputSchema::Event(event) => Some(OutputSchema::Event(event)),
            // What is no schema has been told.
            InputSchema::Inline(source) => {
                Schema::compile(&source).ok().map(|schema| OutputSchema::Inline { source, schema })
            }
        }
    }
}

impl OutputSchema {
    /// Returns the schema as the file says it.
    pub(super) fn source(&self) -> InputSchema {
        match self {
            Self::Event(event) => InputSchema::Event(event.clone()),
            Self::Inline { source, .. } => InputSchema::Inline(source.clone()),
        }
    }
}
