//! What a service's OpenAPI document says of its answers, so that expressions over them can be followed. Takes
//! a text, opens no file. Versions 3.0 and 3.1; references stay inside the document.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::payload::Payload;

/// References to references that are followed for one answer.
const REFERENCES_MAX: usize = 16;
/// Stands for an expression in a path: what it gives is not known.
pub const UNKNOWN: char = '\u{0}';

/// A document.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenApi {
    operations: Vec<Operation>,
    /// Where schemas refer to.
    components: Value,
}

#[derive(Clone, PartialEq, Eq)]
struct Operation {
    /// In upper case.
    method: String,
    /// As the document writes it: `/charges/{id}`.
    path: String,
    /// `operationId`
    id: Option<String>,
    parameters: Vec<Parameter>,
    body: Option<RequestBody>,
    /// The schema of each answer by its status (`200`, `2XX`, `default`); none where it is not said, or no JSON.
    answers: Vec<(String, Option<Value>)>,
}

/// A parameter of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    pub place: ParameterPlace,
    pub required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterPlace {
    Path,
    Query,
    Header,
    Cookie,
}

#[derive(Clone, PartialEq, Eq)]
struct RequestBody {
    required: bool,
    /// None where it is not said, or no JSON.
    schema: Option<Value>,
}

/// How an operation is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described<'d> {
    pub method: &'d str,
    /// `/charges/{id}`
    pub path: &'d str,
    pub parameters: &'d [Parameter],
    /// None where it has no body; whether there must be one, and what fits.
    pub body: Option<(bool, Option<Payload>)>,
}

impl fmt::Debug for OpenApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenApi({} operations)", self.operations.len())
    }
}

/// What is known of the answers to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// A schema for each: that of a success, and that of any answer. None: nothing is known.
    Known { success: Option<Payload>, any: Option<Payload> },
    /// There is no such operation; the one that is nearest.
    NoOperation { nearest: Option<String> },
}

impl OpenApi {
    /// Reads a document, JSON or YAML.
    ///
    /// # Errors
    /// One line: why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Value = match text.trim_start().starts_with('{') {
            true => serde_json::from_str(text).map_err(|error| error.to_string())?,
            false => serde_saphyr::from_str(text).map_err(|error| error.to_string())?,
        };
        match document.get("openapi").and_then(Value::as_str) {
            Some(version) if version.starts_with("3.0") || version.starts_with("3.1") => {}
            Some(version) => return Err(format!("its version is {version}; 3.0 and 3.1 are read")),
            None => return Err("it has no `openapi: 3.…`".to_owned()),
        }
        let paths = document.get("paths").and_then(Value::as_object).ok_or("it has no `paths`")?;
        let mut operations = Vec::new();
        for (path, item) in paths {
            let item = resolved(&document, item);
            for (method, operation) in item.and_then(Value::as_object).into_iter().flatten() {
                if !["get", "put", "post", "delete", "options", "head", "patch"].contains(&method.as_str()) {
                    continue; // `parameters`, `summary`, …
                }
                let own = operation.get("parameters").and_then(Value::as_array);
                let shared = item.and_then(|item| item.get("parameters")).and_then(Value::as_array);
                let mut parameters: Vec<Parameter> = Vec::new();
                // The operation's own stand before those of its path.
                for one in own.into_iter().chain(shared).flatten() {
                    if let Some(one) = resolved(&document, one).and_then(parameter)
                        && !parameters.iter().any(|known| (&known.name, known.place) == (&one.name, one.place))
                    {
                        parameters.push(one);
                    }
                }
                let body = operation.get("requestBody").and_then(|body| resolved(&document, body));
                let answers = operation.get("responses").and_then(Value::as_object).into_iter().flatten();
                let answers = answers.map(|(status, answer)| (status.to_ascii_uppercase(), schema(&document, answer)));
                operations.push(Operation {
                    method: method.to_ascii_uppercase(),
                    path: path.clone(),
                    id: operation.get("operationId").and_then(Value::as_str).map(str::to_owned),
                    parameters,
                    body: body.map(|body| RequestBody {
                        required: body.get("required").and_then(Value::as_bool).unwrap_or(false),
                        schema: schema(&document, body),
                    }),
                    answers: answers.collect(),
                });
            }
        }
        let components = document.get("components").cloned().unwrap_or_else(|| json!({}));
        Ok(Self { operations, components })
    }

    /// Finds what a call is answered with. `path` has [`UNKNOWN`] where an expression stands.
    #[must_use]
    pub fn answers(&self, method: &str, path: &str) -> Answers {
        let path = path.split('?').next().unwrap_or_default();
        let fits: Vec<&Operation> =
            self.operations.iter().filter(|one| one.method == method && is_like(&one.path, path)).collect();
        // One without parameters is meant before one with.
        let exact = fits.iter().find(|one| one.path == path).copied();
        let found = match (exact, fits.as_slice()) {
            (Some(one), _) => one,
            (None, [one]) => *one,
            (None, []) => return Answers::NoOperation { nearest: self.nearest(method, path) },
            (None, _) => return Answers::Known { success: None, any: None },
        };
        let success = |status: &str| status.starts_with('2');
        Answers::Known { success: self.either(found, success), any: self.either(found, |_| true) }
    }

    /// Finds an operation by its id.
    ///
    /// # Errors
    /// The id that is nearest, where there is one.
    pub fn operation(&self, id: &str) -> Result<Described<'_>, Option<&str>> {
        let ids = || self.operations.iter().filter_map(|one| one.id.as_deref());
        let found = self.operations.iter().find(|one| one.id.as_deref() == Some(id));
        let found = found.ok_or_else(|| crate::expression::suggest(id, ids()))?;
        let body = found.body.as_ref().map(|body| {
            let schema = body.schema.as_ref().and_then(Value::as_object).map(|schema| {
                let mut root = schema.clone();
                root.insert("components".to_owned(), self.components.clone());
                Payload::of(&Value::Object(root))
            });
            (body.required, schema)
        });
        Ok(Described { method: &found.method, path: &found.path, parameters: &found.parameters, body })
    }

    /// Returns a schema that each of the answers fits; none when one of them is not known.
    fn either(&self, operation: &Operation, wanted: impl Fn(&str) -> bool) -> Option<Payload> {
        let answers = operation.answers.iter().filter(|(status, _)| wanted(status));
        let schemas: Vec<&Value> = answers.map(|(_, schema)| schema.as_ref()).collect::<Option<_>>()?;
        let mut root = match schemas.as_slice() {
            [] => return None,
            [Value::Object(one)] => one.clone(),
            several => Map::from_iter([("anyOf".to_owned(), json!(several))]),
        };
        root.insert("components".to_owned(), self.components.clone());
        Some(Payload::of(&Value::Object(root)))
    }

    fn nearest(&self, method: &str, path: &str) -> Option<String> {
        let shown = path.replace(UNKNOWN, "{}");
        let wanted = format!("{method} {shown}");
        let all = self.operations.iter().map(|one| format!("{} {}", one.method, one.path));
        all.map(|name| (strsim::jaro_winkler(&name, &wanted), name))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, name)| name)
    }
}

/// True when a call's path may be one that the document's path describes, segment by segment.
fn is_like(described: &str, path: &str) -> bool {
    let (mut ours, mut theirs) = (path.split('/'), described.split('/'));
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return true,
            (Some(ours), Some(theirs)) => {
                if !(theirs.contains('{') || ours.contains(UNKNOWN) || ours == theirs) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

fn parameter(of: &Value) -> Option<Parameter> {
    let place = match of.get("in")?.as_str()? {
        "path" => ParameterPlace::Path,
        "query" => ParameterPlace::Query,
        "header" => ParameterPlace::Header,
        "cookie" => ParameterPlace::Cookie,
        _ => return None,
    };
    let required = place == ParameterPlace::Path || of.get("required").and_then(Value::as_bool).unwrap_or(false);
    Some(Parameter { name: of.get("name")?.as_str()?.to_owned(), place, required })
}

/// Follows `$ref` inside the document.
fn resolved<'d>(document: &'d Value, mut at: &'d Value) -> Option<&'d Value> {
    for _ in 0..REFERENCES_MAX {
        match at.get("$ref").and_then(Value::as_str) {
            None => return Some(at),
            Some(reference) => at = document.pointer(reference.strip_prefix('#')?)?,
        }
    }
    None
}

/// Returns the schema of an answer or of a request's body; none where it has another type than JSON.
fn schema(document: &Value, answer: &Value) -> Option<Value> {
    let content = resolved(document, answer)?.get("content")?.as_object()?;
    let is_json = |kind: &str| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind == "application/json" || kind.ends_with("+json")
    };
    if !content.keys().all(|kind| is_json(kind)) || content.len() != 1 {
        return None;
    }
    content.values().next()?.get("schema").cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
openapi: 3.0.3
paths:
  /charges:
    post:
      responses:
        '201': { content: { application/json: { schema: { $ref: '#/components/schemas/Charge' } } } }
        '402': { $ref: '#/components/responses/Declined' }
    get:
      responses:
        '200': { content: { text/csv: {} } }
  /charges/{id}:
    get:
      responses:
        2XX: { content: { 'application/json; charset=utf-8': { schema: { $ref: '#/components/schemas/Charge' } } } }
  /charges/last:
    get:
      responses: { default: { description: anything } }
components:
  responses:
    Declined: { content: { application/problem+json: { schema: { type: object } } } }
  schemas:
    Charge: { type: object, properties: { id: { type: string } } }
";

    #[test]
    fn answers_are_found_by_method_and_path() {
        let api = OpenApi::parse(DOCUMENT).unwrap();
        let charge = r##""$ref":"#/components/schemas/Charge""##;
        /// Why, method, path, what the schemas of a success and of any answer hold.
        type Row<'a> = (&'a str, &'a str, &'a str, (Option<&'a str>, Option<&'a str>));
        let rows: &[Row<'_>] = &[
            ("both are known", "POST", "/charges", (Some(charge), Some("anyOf"))),
            ("a query is no part of it", "POST", "/charges?a=\u{0}", (Some(charge), Some("anyOf"))),
            ("no JSON", "GET", "/charges", (None, None)),
            ("a parameter", "GET", "/charges/7", (Some(charge), Some(charge))),
            ("one without parameters first", "GET", "/charges/last", (None, None)),
            ("either of two", "GET", "/charges/\u{0}", (None, None)),
        ];
        for (why, method, path, expected) in rows {
            let Answers::Known { success, any } = api.answers(method, path) else { panic!("{why}") };
            for (found, part) in [(&success, expected.0), (&any, expected.1)] {
                let holds = part.is_none_or(|part| found.as_ref().is_some_and(|found| found.text().contains(part)));
                assert!(found.is_some() == part.is_some() && holds, "{why}: {found:?}");
            }
        }
        let near = |method, path| match api.answers(method, path) {
            Answers::NoOperation { nearest } => nearest,
            other => panic!("{other:?}"),
        };
        assert_eq!(near("POST", "/charge").as_deref(), Some("POST /charges"));
        assert_eq!(near("DELETE", "/a/b/c"), None);
    }

    #[test]
    fn what_is_no_document() {
        for (text, part) in [
            ("swagger: '2.0'", "no `openapi"),
            ("openapi: 4.0.0\npaths: {}", "3.0 and 3.1"),
            ("{\"openapi\": \"3.1.0\"}", "no `paths`"),
            ("{", "EOF"),
            ("a: [", ""),
        ] {
            let error = OpenApi::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
