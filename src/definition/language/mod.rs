//! The file format as one table: every key, what may stand behind it, what it means. Editors get it as
//! `schemas/saga.schema.json`; the tests hold the reader's own lists of keys against it. What a schema cannot
//! say (which steps may be read, where a pivot may stand) is not here.

mod calls;
mod json_schema;
mod steps;
#[cfg(test)]
mod tests;
mod top;

pub use json_schema::json_schema;
pub use steps::STEP;
pub use top::FILE;

/// One key of a mapping.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub value: Value,
    /// For the author of a file, in an editor.
    pub about: &'static str,
    pub required: bool,
}

/// What may stand behind a key.
#[derive(Debug)]
pub enum Value {
    /// Text without expressions.
    Literal,
    /// Literal text that matches a pattern.
    Name(&'static str),
    /// `order.placed.v2`
    EventType,
    /// A whole number in a range.
    Integer(u64, u64),
    /// A number in a range.
    Number(u64, u64),
    Boolean,
    /// `200ms`, `3s`, `PT1H30M`
    Duration,
    /// `${ … }`, the whole value; `true` and `false` too.
    Condition,
    /// `${ … }`, the whole value.
    Expression,
    /// Text, with expressions in it.
    Text,
    /// Any JSON value, with expressions in it.
    Any,
    /// One of a few words.
    Words(&'static [&'static str]),
    /// A JSON Schema.
    Schema,
    /// A list of steps; by name, as steps hold steps.
    Steps,
    /// A mapping of the table.
    Mapping(&'static Mapping),
    /// A list, never empty.
    List(&'static Value),
    /// Names of the author's choice.
    Named(&'static Value),
    /// One of several.
    OneOf(&'static [Value]),
}

/// A mapping: its keys, and which of them exclude each other.
#[derive(Debug)]
pub struct Mapping {
    /// Its name among the definitions of the JSON Schema.
    pub name: &'static str,
    pub about: &'static str,
    pub keys: &'static [Key],
    /// Exactly one of these is there; empty: no such rule.
    pub one_of: &'static [&'static str],
}

const fn key(name: &'static str, value: Value, about: &'static str) -> Key {
    Key { name, value, about, required: false }
}

const fn must(name: &'static str, value: Value, about: &'static str) -> Key {
    Key { name, value, about, required: true }
}

/// Names of services, as `ServiceName` takes them.
const SERVICE: Value = Value::Name("^[a-z][a-z0-9_-]{0,62}$");
