//! The graphql `with`: a document, read when the file is loaded, and its variables.

use std::ops::Range;

use apollo_parser::Parser;
use apollo_parser::cst::{CstNode, Definition, OperationDefinition, Type};

use super::call::Placement;
use super::diagnostic::Finding;
use super::file::Loader;
use super::model::CallTemplate;
use super::reader::listed;
use super::yaml::{Entry, Node, Yaml};
use crate::expression::{TextTemplate, suggest};
use crate::service::Protocol;

/// Fields inside fields.
const DEPTH_MAX: usize = 100;
const TOKENS_MAX: usize = 20_000;

/// The operation of a document that is called.
struct Operation {
    reads: bool,
    variables: Vec<Variable>,
}

struct Variable {
    name: String,
    /// Of a type that is not null, without a default.
    required: bool,
}

struct Wrong {
    /// Bytes of the document.
    at: Range<usize>,
    message: String,
    help: String,
}

impl Loader<'_> {
    pub(super) fn graphql(&mut self, place: &Placement<'_>) -> Option<CallTemplate> {
        let with = self.reader.mapping(place.with, "`with`", &["query", "variables", "operation"], &[])?;
        let help = "write the document: `query: \"mutation ($id: ID!) { … }\"`";
        let node = self.reader.required(with, "`with`", "query", help)?;
        let text = self.reader.literal(node, "`query`")?;
        let wanted = match with.get("operation") {
            Some(node) => Some((self.reader.literal(node, "`operation`")?, node)),
            None => None,
        };
        let operation = match read(text, wanted.map(|(name, _)| name)) {
            Ok(operation) => operation,
            Err(Wrong { at, message, help }) => {
                let span = match wanted {
                    Some((_, node)) if at.is_empty() => node.span.clone(),
                    _ => self.reader.inside(node, text, at.start, at.end.max(at.start + 1).min(text.len())),
                };
                self.reader.find(Finding::new("S028", span, message).help(help));
                return None;
            }
        };
        self.variables(with.get("variables"), node, &operation);
        let member = |key: &str, value: &Node| Entry {
            key: key.to_owned(),
            key_span: value.span.start..value.span.start,
            value: value.clone(),
        };
        let mut members = vec![member("query", node)];
        members.extend(with.get("variables").map(|node| member("variables", node)));
        members.extend(wanted.map(|(_, node)| member("operationName", node)));
        let body = Node { span: place.with.span.clone(), value: Yaml::Mapping(members) };
        Some(CallTemplate {
            service: place.service.clone(),
            protocol: Protocol::Graphql,
            method: "POST".to_owned(),
            reads: operation.reads,
            path: TextTemplate::path([]),
            query: Vec::new(),
            headers: Vec::new(),
            body: Some(self.reader.template(&body, place.roots, place.at)?),
        })
    }

    /// Holds the variables that are written against those that the operation declares.
    fn variables(&mut self, given: Option<&Node>, document: &Node, operation: &Operation) {
        let entries = match given.map(|node| &node.value) {
            None => &[][..],
            Some(Yaml::Mapping(entries)) => entries,
            // One expression gives them all.
            Some(Yaml::Scalar(_) | Yaml::Sequence(_)) => return,
        };
        for entry in entries {
            if operation.variables.iter().any(|variable| variable.name == entry.key) {
                continue;
            }
            let names = operation.variables.iter().map(|variable| variable.name.as_str());
            let help = match suggest(&entry.key, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "declare it behind the operation's name, or remove it".to_owned(),
            };
            let message = format!("the operation has no variable `${}`", entry.key);
            self.reader.find(Finding::new("S028", entry.key_span.clone(), message).help(help));
        }
        let missing = operation
            .variables
            .iter()
            .find(|variable| variable.required && !entries.iter().any(|entry| entry.key == variable.name));
        if let Some(Variable { name, .. }) = missing {
            let span = self.reader.first_line(&given.unwrap_or(document).span);
            let message = format!("the operation needs the variable `${name}`");
            let help = format!("write `variables: {{ {name}: … }}`");
            self.reader.find(Finding::new("S028", span, message).help(help));
        }
    }
}

/// Reads a document and finds the operation that is meant.
fn read(text: &str, wanted: Option<&str>) -> Result<Operation, Wrong> {
    let tree = Parser::new(text).recursion_limit(DEPTH_MAX).token_limit(TOKENS_MAX).parse();
    if let Some(error) = tree.errors().next() {
        let at = error.index().min(text.len());
        let to = if error.is_eof() { at } else { (at + error.data().len()).min(text.len()) };
        let message = format!("the document cannot be read: {}", words(error.message()));
        return Err(Wrong { at: at..to, message, help: "graphql.org/learn says how it is written".to_owned() });
    }
    let mut operations: Vec<OperationDefinition> = Vec::new();
    for definition in tree.document().definitions() {
        match definition {
            Definition::OperationDefinition(operation) => operations.push(operation),
            Definition::FragmentDefinition(_) => {}
            other => {
                let at = range(&other);
                let message = "a call has operations and fragments, not the definition of a type".to_owned();
                return Err(Wrong { at, message, help: "the types are the service's".to_owned() });
            }
        }
    }
    let name = |operation: &OperationDefinition| operation.name().map(|name| name.text().to_string());
    let names: Vec<String> = operations.iter().filter_map(name).collect();
    let nowhere = |message: String, help: String| Wrong { at: 0..0, message, help };
    let shown: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = match (wanted, operations.as_slice()) {
        (_, []) => {
            return Err(nowhere(
                "the document has no operation".to_owned(),
                "write `query { … }` or `mutation { … }`".to_owned(),
            ));
        }
        (None, [one]) => one,
        (None, _) => {
            let message = format!("the document has {} operations", operations.len());
            return Err(nowhere(message, format!("say which one is meant: `operation:` {}", listed(&shown))));
        }
        (Some(wanted), _) => operations.iter().find(|one| name(one).as_deref() == Some(wanted)).ok_or_else(|| {
            let help = match suggest(wanted, shown.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has {}", listed(&shown)),
            };
            nowhere(format!("the document has no operation `{wanted}`"), help)
        })?,
    };
    let kind = found.operation_type();
    if kind.as_ref().is_some_and(|kind| kind.subscription_token().is_some()) {
        let message = "a subscription has no single answer".to_owned();
        return Err(Wrong { at: range(found), message, help: "use a query or a mutation".to_owned() });
    }
    let declared = found.variable_definitions().into_iter().flat_map(|all| all.variable_definitions());
    let variables = declared.filter_map(|one| {
        let required = matches!(one.ty(), Some(Type::NonNullType(_))) && one.default_value().is_none();
        Some(Variable { name: one.variable()?.name()?.text().to_string(), required })
    });
    Ok(Operation { reads: kind.is_none_or(|kind| kind.query_token().is_some()), variables: variables.collect() })
}

/// The parser names tokens as its own code does.
fn words(message: &str) -> String {
    let names = [
        ("R_PAREN", "`)`"),
        ("L_PAREN", "`(`"),
        ("R_CURLY", "`}`"),
        ("L_CURLY", "`{`"),
        ("R_BRACK", "`]`"),
        ("L_BRACK", "`[`"),
    ];
    names.iter().fold(message.to_owned(), |text, (name, shown)| text.replace(name, shown))
}

fn range(node: &impl CstNode) -> Range<usize> {
    let range = node.syntax().text_range();
    usize::from(range.start())..usize::from(range.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        let two =
            "query A { a } mutation B($x: Int!, $y: Int = 1, $z: [Int]) { b(x: $x) { ...F } } fragment F on T { c }";
        /// Why, document, operation, what is found: whether it reads and the variables it needs, or the message.
        type Row<'a> = (&'a str, &'a str, Option<&'a str>, Result<(bool, &'a str), &'a str>);
        let rows: &[Row<'_>] = &[
            ("short", "{ a }", None, Ok((true, ""))),
            ("query", "query ($id: ID!) { a(id: $id) }", None, Ok((true, "id"))),
            ("mutation", "mutation { a }", None, Ok((false, ""))),
            ("one of two", two, Some("B"), Ok((false, "x"))),
            ("the other", two, Some("A"), Ok((true, ""))),
            ("which?", two, None, Err("the document has 2 operations")),
            ("no such", two, Some("C"), Err("the document has no operation `C`")),
            ("subscription", "subscription { a }", None, Err("a subscription has no single answer")),
            ("a type", "type A { a: Int }", None, Err("a call has operations and fragments")),
            ("only a fragment", "fragment F on T { c }", None, Err("the document has no operation")),
            ("open", "query { a", None, Err("the document cannot be read")),
            ("empty", "", None, Err("the document")),
        ];
        for (why, text, wanted, expected) in rows {
            match (read(text, *wanted), expected) {
                (Ok(found), Ok((reads, needs))) => {
                    let needed: Vec<_> =
                        found.variables.iter().filter(|one| one.required).map(|one| one.name.as_str()).collect();
                    assert_eq!((found.reads, needed.join(" ")), (*reads, (*needs).to_owned()), "{why}");
                }
                (Err(wrong), Err(part)) => assert!(wrong.message.starts_with(part), "{why}: {}", wrong.message),
                (found, expected) => {
                    panic!("{why}: {:?}, {expected:?}", found.map(|one| one.reads).map_err(|wrong| wrong.message))
                }
            }
        }
        let deep = "{ a ".repeat(50_000);
        assert!(read(&deep, None).is_err());
    }
}
