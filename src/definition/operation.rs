//! The openapi `with`: an operation of the service's document by its id, with its parameters.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::call::Placement;
use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{CallTemplate, InputSchema};
use super::reader::{Map, Shaped, listed};
use super::yaml::{Entry, Node, Yaml};
use crate::expression::{PathPiece, TextTemplate, suggest};
use crate::id::ServiceName;
use crate::openapi::{Described, Parameter, ParameterPlace};
use crate::service::Protocol;

/// All but RFC 3986's unreserved characters.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Loader<'_> {
    pub(super) fn operation(&mut self, place: &Placement<'_>) -> Option<CallTemplate> {
        let with = self.reader.mapping(place.with, "`with`", &["operation", "parameters", "body"], &[])?;
        let help = "write the operation's id: `operation: createCharge`";
        let node = self.reader.required(with, "`with`", "operation", help)?;
        let id = self.reader.literal(node, "`operation`")?;
        let service = &place.service;
        let document = self.operations(service);
        let found = match &document {
            None => Err((
                format!("the service `{service}` has no OpenAPI document"),
                "give it one in backstitch.yaml: `openapi: FILE`".to_owned(),
            )),
            Some(document) => document.operation(id).map_err(|near| {
                let help = near.map_or_else(
                    || "correct the id, or the document".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                (format!("the OpenAPI document of `{service}` has no operation `{id}`"), help)
            }),
        };
        match found {
            Ok(described) => self.described(place, with, node, &described),
            // A run in flight comes back all the same: only the step that needs it fails, before anything is sent.
            Err((message, _)) if self.is_stored() => Some(gone(service, &message)),
            Err((message, help)) => {
                self.reader.find(Finding::new("S029", node.span.clone(), message).help(help));
                None
            }
        }
    }

    fn described(
        &mut self,
        place: &Placement<'_>,
        with: Map<'_>,
        operation: &Node,
        described: &Described<'_>,
    ) -> Option<CallTemplate> {
        let entries = match with.get("parameters").map(|node| &node.value) {
            None => &[][..],
            Some(Yaml::Mapping(entries)) => entries,
            Some(Yaml::Scalar(_) | Yaml::Sequence(_)) => {
                self.reader.shape(with.get("parameters")?, "a mapping");
                return None;
            }
        };
        let before = self.reader.findings.len();
        for entry in entries {
            self.parameter(entry, described.parameters);
        }
        let missing = |one: &&Parameter| one.required && !entries.iter().any(|entry| entry.key == one.name);
        if let Some(one) = described.parameters.iter().find(missing) {
            let message = format!("the operation needs the parameter `{}`", one.name);
            let help = format!("write `parameters: {{ {}: … }}`", one.name);
            self.reader.find(Finding::new("S029", operation.span.clone(), message).help(help));
        }
        match (&described.body, with.entry("body")) {
            (None, Some(entry)) => {
                let finding = Finding::new("S029", entry.key_span.clone(), "the operation has no body");
                self.reader.find(finding.help("use `parameters`, or correct the document"));
            }
            (Some((true, _)), None) => {
                let finding = Finding::new("S029", operation.span.clone(), "the operation needs a body");
                self.reader.find(finding.help("write `body: { … }`"));
            }
            (Some((_, Some(schema))), Some(entry)) => {
                let schema = InputSchema::Inline(schema.clone());
                self.reader.shaped.push(Shaped { what: "the body", node: entry.value.clone(), schema });
            }
            (None | Some(_), _) => {}
        }
        // What stood in a file that loaded once stands, whatever the document says by then.
        if self.is_stored() {
            self.reader.findings.truncate(before);
        } else if self.reader.findings.len() > before {
            return None;
        }
        let given = |name: &str| entries.iter().find(|entry| entry.key == name);
        let (mut pieces, mut rest) = (Vec::new(), described.path);
        while let Some((literal, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}')?;
            pieces.push(PathPiece::Literal(literal.to_owned()));
            let value = match given(name) {
                Some(entry) => self.reader.text_template(&entry.value, "a parameter", place.roots, place.at)?,
                None => return Some(gone(&place.service, &format!("the operation needs the parameter `{name}`"))),
            };
            pieces.push(PathPiece::Parameter(value));
            rest = after;
        }
        pieces.push(PathPiece::Literal(rest.to_owned()));
        let (mut query, mut headers) = (Vec::new(), Vec::new());
        for one in described.parameters {
            let Some(entry) = given(&one.name) else { continue };
            match one.place {
                ParameterPlace::Path | ParameterPlace::Cookie => {}
                ParameterPlace::Query => {
                    let value = self.reader.text_template(&entry.value, "a parameter", place.roots, place.at)?;
                    let name = utf8_percent_encode(&one.name, ESCAPED);
                    query.push((name.to_string(), value));
                }
                ParameterPlace::Header => {
                    let name = Entry { key: one.name.clone(), ..entry.clone() };
                    let span = entry.value.span.clone();
                    headers.extend(self.headers(
                        &Node { span, value: Yaml::Mapping(vec![name]) },
                        place.roots,
                        place.at,
                    )?);
                }
            }
        }
        let body = match with.get("body") {
            Some(node) => Some(self.reader.template(node, place.roots, place.at)?),
            None => None,
        };
        Some(CallTemplate {
            service: place.service.clone(),
            protocol: Protocol::Http,
            method: described.method.to_owned(),
            reads: matches!(described.method, "GET" | "HEAD"),
            path: TextTemplate::path(pieces),
            query,
            headers,
            body,
        })
    }

    fn parameter(&mut self, entry: &Entry, known: &[Parameter]) {
        let finding = match known.iter().find(|one| one.name == entry.key) {
            Some(Parameter { place: ParameterPlace::Cookie, .. }) => Finding::new(
                "S029",
                entry.key_span.clone(),
                format!("`{}` is a cookie, which no call sends", entry.key),
            )
            .help("leave it out; a service signs us in with `auth`"),
            Some(_) => return,
            None => {
                let names: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
                let help = match suggest(&entry.key, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if names.is_empty() => "it has none".to_owned(),
                    None => format!("it has {}", listed(&names)),
                };
                Finding::new("S029", entry.key_span.clone(), format!("the operation has no parameter `{}`", entry.key))
                    .help(help)
            }
        };
        self.reader.find(finding);
    }
}

/// A call that fails before anything is sent, and says why.
fn gone(service: &ServiceName, why: &str) -> CallTemplate {
    let text = format!("${{ error({}) }}", serde_json::Value::from(why));
    CallTemplate {
        service: service.clone(),
        protocol: Protocol::Http,
        method: "GET".to_owned(),
        reads: true,
        path: TextTemplate::compile(&text, &[][..]).unwrap_or_else(|_| TextTemplate::path([])),
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
    }
}
