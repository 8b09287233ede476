//! JSON values as the small evaluator sees them: slices of the raw text wherever nobody has looked
//! inside yet, so that a path on a document reads the bytes once and copies nothing.
//!
//! The text is well formed (`Payload` guarantees it); a scanner that meets anything else says nothing
//! was found, it never panics.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::raw::{Items, Members};

/// A value on its way through an expression.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Text(Cow<'a, str>),
    /// JSON text of an object, an array or a number that is no `i64`.
    Raw(&'a str),
    Array(Vec<Value<'a>>),
    /// Keys in order of first appearance, each once.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// What kind of JSON a value is, in jq's order of sorting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    Text,
    Array,
    Object,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

impl<'a> Value<'a> {
    /// Reads one JSON text: scalars are decoded, containers and unusual numbers stay raw.
    pub(super) fn of(text: &'a str) -> Self {
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        match text.as_bytes().first() {
            Some(b'n') | None => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') => Self::Text(decode(text)),
            Some(b'{' | b'[') => Self::Raw(text),
            Some(_) => text.parse().map_or(Self::Raw(text), Self::Int),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) => Kind::Number,
            Self::Text(_) => Kind::Text,
            Self::Array(_) => Kind::Array,
            Self::Object(_) => Kind::Object,
            Self::Raw(text) => match text.as_bytes().first() {
                Some(b'{') => Kind::Object,
                Some(b'[') => Kind::Array,
                _ => Kind::Number,
            },
        }
    }

    /// jq's truth: everything but null and false.
    pub(super) fn truthy(&self) -> bool {
        !matches!(self, Self::Null | Self::Bool(false))
    }

    /// Returns `.key`; `None` where jq gives an error.
    pub(super) fn member(&self, key: &str) -> Option<Value<'a>> {
        match self {
            Self::Null => Some(Self::Null),
            Self::Object(members) => {
                Some(members.iter().find(|(name, _)| name == key).map_or(Self::Null, |(_, value)| value.clone()))
            }
            Self::Raw(text) if text.starts_with('{') => Some(member(text, key).map_or(Self::Null, Self::of)),
            Self::Raw(_) | Self::Bool(_) | Self::Int(_) | Self::Text(_) | Self::Array(_) => None,
        }
    }

    /// Returns `.[index]`, counted from the end below zero; `None` where jq gives an error.
    pub(super) fn element(&self, index: i64) -> Option<Value<'a>> {
        match self {
            Self::Null => Some(Self::Null),
            Self::Array(items) => Some(at(items, index).cloned().unwrap_or(Self::Null)),
            Self::Raw(text) if text.starts_with('[') => Some(if index >= 0 {
                let mut items = Items::new(text);
                usize::try_from(index).ok().and_then(|index| items.nth(index)).map_or(Self::Null, Self::of)
            } else {
                at(&Items::new(text).collect::<Vec<_>>(), index).map_or(Self::Null, |text| Self::of(text))
            }),
            Self::Raw(_) | Self::Bool(_) | Self::Int(_) | Self::Text(_) | Self::Object(_) => None,
        }
    }

    /// Returns the children, as `.[]` does; `None` where jq gives an error.
    pub(super) fn children(&self) -> Option<Vec<Value<'a>>> {
        match self {
            Self::Array(items) => Some(items.clone()),
            Self::Object(members) => Some(members.iter().map(|(_, value)| value.clone()).collect()),
            Self::Raw(text) if text.starts_with('[') => Some(Items::new(text).map(Self::of).collect()),
            Self::Raw(text) if text.starts_with('{') => {
                Some(members(text).into_iter().map(|(_, value)| value).collect())
            }
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Text(_) | Self::Raw(_) => None,
        }
    }

    /// Returns jq's `length`; `None` where jq gives an error or the number needs more than an `i64`.
    pub(super) fn length(&self) -> Option<i64> {
        let count = match self {
            Self::Null => 0,
            Self::Bool(_) => return None,
            Self::Int(number) => return number.checked_abs(),
            Self::Text(text) => text.chars().count(),
            Self::Array(items) => items.len(),
            Self::Object(members) => members.len(),
            Self::Raw(text) if text.starts_with('[') => Items::new(text).count(),
            Self::Raw(text) if text.starts_with('{') => members(text).len(),
            Self::Raw(_) => return None,
        };
        i64::try_from(count).ok()
    }

    /// Compares as jq sorts; `None` where that takes more than two scalars or two kinds.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            _ => match self.kind().cmp(&other.kind()) {
                Ordering::Equal => match self.kind() {
                    Kind::Null => Some(Ordering::Equal),
                    Kind::Number => Some(as_floats(self.float()?, other.float()?)),
                    Kind::Bool | Kind::Text | Kind::Array | Kind::Object => None,
                },
                unequal => Some(unequal),
            },
        }
    }

    /// Returns a number as jq compares it with a fraction; `None` for an integer beyond `i64`.
    fn float(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Raw(text) if text.contains(['.', 'e', 'E']) => text.parse().ok(),
            Self::Null | Self::Bool(_) | Self::Text(_) | Self::Raw(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// Returns how many values this one holds, itself included, and 64 bytes of text as one more:
    /// what a clone costs.
    pub(super) fn nodes(&self) -> u64 {
        match self {
            Self::Null | Self::Bool(_) | Self::Int(_) => 1,
            Self::Text(text) => 1 + text.len() as u64 / 64,
            Self::Raw(text) => 1 + text.len() as u64 / 64,
            Self::Array(items) => items.iter().fold(1, |sum, item| sum + item.nodes()),
            Self::Object(members) => members.iter().fold(1, |sum, (_, value)| sum + 1 + value.nodes()),
        }
    }

    /// Appends the value as JSON; false once the text is longer than `bytes_max`.
    #[must_use]
    pub(super) fn write(&self, out: &mut String, bytes_max: usize) -> bool {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Int(number) => {
                use std::fmt::Write;
                write!(out, "{number}").expect("writing to a String does not fail");
            }
            Self::Text(text) => write_text(text, out),
            Self::Raw(text) => out.push_str(text),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    if !item.write(out, bytes_max) {
                        return false;
                    }
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_text(key, out);
                    out.push(':');
                    if !value.write(out, bytes_max) {
                        return false;
                    }
                }
                out.push('}');
            }
        }
        out.len() <= bytes_max
    }
}

/// Orders fractions as jq does; JSON has no NaN.
fn as_floats(left: f64, right: f64) -> Ordering {
    if left == 0.0 && right == 0.0 { Ordering::Equal } else { left.total_cmp(&right) }
}

fn at<T>(items: &[T], index: i64) -> Option<&T> {
    let index = if index < 0 { i64::try_from(items.len()).ok()?.checked_add(index)? } else { index };
    items.get(usize::try_from(index).ok()?)
}

/// Appends text as a JSON string.
pub(super) fn write_text(text: &str, out: &mut String) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        if escape.is_empty() {
            use std::fmt::Write;
            write!(out, "\\u{byte:04x}").expect("writing to a String does not fail");
        } else {
            out.push_str(escape);
        }
        from = at + 1; // the byte is ASCII, so this is a boundary
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// Decodes a JSON string with its quotes; borrows where nothing is escaped.
fn decode(text: &str) -> Cow<'_, str> {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or("");
    if inner.as_bytes().contains(&b'\\') {
        Cow::Owned(serde_json::from_str(text).unwrap_or_default())
    } else {
        Cow::Borrowed(inner)
    }
}

/// Finds a member of an object's text; of a repeated key the last, as serde_json has it.
fn member<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let mut found = None;
    for (name, value) in Members::new(object) {
        let inner = &name[1..name.len() - 1];
        if inner == key || (inner.as_bytes().contains(&b'\\') && decode(name) == key) {
            found = Some(value);
        }
    }
    found
}

/// Returns an object's members, a repeated key at its first place with its last value.
pub(super) fn members(object: &str) -> Vec<(Cow<'_, str>, Value<'_>)> {
    let all: Vec<_> = Members::new(object).map(|(name, value)| (decode(name), Value::of(value))).collect();
    let mut seen = std::collections::BTreeMap::new();
    let mut repeated = false;
    for (i, (name, _)) in all.iter().enumerate() {
        repeated |= seen.insert(name.clone(), i).is_some();
    }
    if !repeated {
        return all;
    }
    let mut out: Vec<(Cow<'_, str>, Value<'_>)> = Vec::with_capacity(seen.len());
    let mut taken = std::collections::BTreeSet::new();
    for (name, _) in &all {
        if taken.insert(name.clone()) {
            out.push((name.clone(), all[seen[name]].1.clone()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_on_raw_text() {
        let text = r#" {"a": [1, {"b\n": "x"}, "]}"], "c" : -0.50, "a2": {"a":true}, "d": null, "c": 12345678901234567890123 } "#;
        let value = Value::of(text);
        let show = |value: Option<Value>| {
            value.map(|value| {
                let mut out = String::new();
                assert!(value.write(&mut out, 1_000));
                out
            })
        };
        assert_eq!(show(value.member("a").and_then(|a| a.element(2))).as_deref(), Some(r#""]}""#));
        assert_eq!(show(value.member("a").and_then(|a| a.element(-2)?.member("b\n"))).as_deref(), Some(r#""x""#));
        assert_eq!(
            show(value.member("c")).as_deref(),
            Some("12345678901234567890123"),
            "the last of two keys, all digits"
        );
        assert_eq!(show(value.member("nope")).as_deref(), Some("null"));
        assert_eq!(show(value.member("a").and_then(|a| a.element(99))).as_deref(), Some("null"));
        assert!(value.element(0).is_none(), "an object has no elements");
        assert_eq!(value.length(), Some(4), "a repeated key counts once");
        assert_eq!(Value::of("[ ]").length(), Some(0));
        assert_eq!(Value::of("{ }").length(), Some(0));
    }

    #[test]
    fn malformed_text_is_empty_not_a_panic() {
        for text in ["{", "[", "{\"", "[\"a", "{\"a\":", "{\"a\\", "[,]", "{,}", "", "\"", "[[", "{\"a\" 1}"] {
            let value = Value::of(text);
            let _ = (value.member("a"), value.element(0), value.element(-1), value.length(), value.children());
        }
    }

    #[test]
    fn strings_survive() {
        for text in ["", "a", "\u{1}\"\\\n\r\t\u{7f}é😀", "/"] {
            let mut out = String::new();
            write_text(text, &mut out);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}
