//! What is wrong with a document, place by place, in words that never repeat the document's own values: they
//! go into answers, logs and dead letters.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;

/// Violations of one document that are told; a document with more has one cause for many of them.
pub const VIOLATIONS_MAX: usize = 50;
/// Alternatives of one `anyOf` or `oneOf` that are spoken of.
const ALTERNATIVES_MAX: usize = 5;
/// One message is a line.
const MESSAGE_BYTES_MAX: usize = 300;

/// One place in a document that breaks its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer; for a missing or unexpected member the pointer to that member.
    pub pointer: String,
    pub message: String,
}

/// Turns the validator's errors into violations, in the order of their places.
pub(super) fn of<'a>(errors: impl Iterator<Item = ValidationError<'a>>) -> Vec<Violation> {
    let mut violations: Vec<Violation> = errors.flat_map(|error| one(&error)).take(VIOLATIONS_MAX).collect();
    violations.sort_by(|a, b| (&a.pointer, &a.message).cmp(&(&b.pointer, &b.message)));
    violations.dedup();
    violations
}

fn one(error: &ValidationError<'_>) -> Vec<Violation> {
    let at = error.instance_path().as_str();
    let member = |name: &str| format!("{at}/{}", cut(name).replace('~', "~0").replace('/', "~1"));
    let here = |message: String| vec![Violation { pointer: at.to_owned(), message: cut(&message).to_owned() }];
    let unexpected = |names: &[String]| {
        let names = names.iter().take(VIOLATIONS_MAX);
        names.map(|name| Violation { pointer: member(name), message: "is not allowed".to_owned() }).collect()
    };
    match error.kind() {
        Kind::Required { property } => {
            let pointer = member(property.as_str().unwrap_or_default());
            vec![Violation { pointer, message: "is missing".to_owned() }]
        }
        Kind::AdditionalProperties { unexpected: names } | Kind::UnevaluatedProperties { unexpected: names } => {
            unexpected(names)
        }
        // Without any `properties` the validator names the object, not the member.
        Kind::FalseSchema if error.schema_path().as_str().ends_with("/additionalProperties") => {
            here("has members, but none are allowed".to_owned())
        }
        Kind::FalseSchema => here("is not allowed".to_owned()),
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            here(format!("fits none of: {}", alternatives(context, at)))
        }
        Kind::OneOfMultipleValid { .. } => here("fits several of `oneOf`, where one is allowed".to_owned()),
        Kind::PropertyNames { error } => here(format!("has a member whose name is wrong: {}", error.masked_with("it"))),
        _ => {
            let text = error.masked_with("it").to_string();
            here(text.strip_prefix("it ").map_or_else(|| text.clone(), str::to_owned))
        }
    }
}

/// Says of each alternative what first speaks against it.
fn alternatives(context: &[Vec<ValidationError<'static>>], at: &str) -> String {
    let reasons = context.iter().enumerate().map(|(index, errors)| {
        let first = errors.first().and_then(|error| one(error).into_iter().next());
        let reason = first.map_or_else(String::new, |first| {
            let below = first.pointer.strip_prefix(at).unwrap_or(&first.pointer).to_owned();
            if below.is_empty() { first.message } else { format!("{below} {}", first.message) }
        });
        format!("{}) {reason}", index + 1)
    });
    reasons.take(ALTERNATIVES_MAX).collect::<Vec<_>>().join("; ")
}

/// Cuts a text at a character's boundary.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::super::Schema;
    use super::*;
    use crate::payload::Payload;

    fn violations(schema: &str, data: &str) -> Vec<String> {
        let schema = Schema::compile(&Payload::parse(schema).unwrap()).unwrap();
        match schema.validate(&Payload::parse(data).unwrap()) {
            Ok(()) => Vec::new(),
            Err(found) => found.into_iter().map(|v| format!("{} {}", v.pointer, v.message)).collect(),
        }
    }

    #[test]
    fn places_and_words() {
        let rows: &[(&str, &str, &str, &[&str])] = &[
            ("fine", r#"{"type": "object"}"#, "{}", &[]),
            (
                "a type",
                r#"{"properties": {"a": {"type": "integer"}}}"#,
                r#"{"a": "secret"}"#,
                &[r#"/a is not of type "integer""#],
            ),
            (
                "all at once, missing ones at their own place",
                r#"{"required": ["a", "b/c"], "properties": {"d": {"minimum": 1}}}"#,
                r#"{"d": 0}"#,
                &["/a is missing", "/b~1c is missing", "/d is less than the minimum of 1"],
            ),
            (
                "any member",
                r#"{"additionalProperties": false}"#,
                r#"{"x": 1}"#,
                &[" has members, but none are allowed"],
            ),
            (
                "unexpected ones",
                r#"{"properties": {"a": {}}, "additionalProperties": false}"#,
                r#"{"a": 1, "y": 1, "x": 1}"#,
                &["/x is not allowed", "/y is not allowed"],
            ),
            ("a choice", r#"{"enum": ["a", "b"]}"#, r#""secret""#, &[r#" is not one of "a" or "b""#]),
            ("a pattern", r#"{"pattern": "^A-[0-9]+$"}"#, r#""secret""#, &[r#" does not match "^A-[0-9]+$""#]),
            ("a format", r#"{"format": "date-time"}"#, r#""noon""#, &[r#" is not a "date-time""#]),
            (
                "one of",
                r#"{"oneOf": [{"type": "string"}, {"type": "null"}]}"#,
                "1",
                &[r#" fits none of: 1) is not of type "string"; 2) is not of type "null""#],
            ),
            (
                "one of, deeper",
                r#"{"properties": {"a": {"oneOf": [{"required": ["b"]}, {"properties": {"c": {"type": "null"}}}]}}}"#,
                r#"{"a": {"c": 1}}"#,
                &[r#"/a fits none of: 1) /b is missing; 2) /c is not of type "null""#],
            ),
            (
                "too many of",
                r#"{"oneOf": [{}, {"minimum": 0}]}"#,
                "1",
                &[" fits several of `oneOf`, where one is allowed"],
            ),
            ("whole numbers written as 1.0", r#"{"type": "integer"}"#, "1.0", &[]),
            ("large whole numbers", r#"{"type": "integer", "minimum": 0}"#, "12345678901234567890123", &[]),
        ];
        for (why, schema, data, expected) in rows {
            assert_eq!(violations(schema, data), *expected, "{why}");
        }
    }

    #[test]
    fn bounded_in_number_and_size() {
        let items = format!("[{}]", vec!["1"; 1_000].join(","));
        assert_eq!(violations(r#"{"items": {"type": "string"}}"#, &items).len(), VIOLATIONS_MAX);
        let name = "n".repeat(100_000);
        let found =
            violations(r#"{"properties": {"a": {}}, "additionalProperties": false}"#, &format!(r#"{{"{name}": 1}}"#));
        assert!(found[0].len() < 2 * MESSAGE_BYTES_MAX);
        let found = violations(r#"{"type": "integer"}"#, &format!("\"{name}\""));
        assert!(!found[0].contains("nnn"));
        let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        assert!(Payload::parse(deep).is_err(), "too deep to be read, so it never comes here");
    }
}
