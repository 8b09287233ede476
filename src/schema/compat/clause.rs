//! What one alternative of a schema asks of values of one kind, taken apart: bounds, lengths, members,
//! items. A schema is, kind by kind, a list of such clauses of which one has to hold.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::document::Id;
use super::number::{Num, equal};

/// The kinds of JSON values; whole numbers are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Null,
    Boolean,
    Number,
    Text,
    Array,
    Object,
}

impl Kind {
    pub(super) const ALL: [Self; 6] = [Self::Null, Self::Boolean, Self::Number, Self::Text, Self::Array, Self::Object];

    /// Returns the word of JSON Schema.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::Text => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }

    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }
}

/// A condition on a value. Several of them hold together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Term {
    /// Fits the subschema.
    Is(Id),
    /// Does not fit it.
    Not(Id),
    /// Is of this kind: made when a clause is split.
    Kind(Kind),
    /// Is this value, by its number: made when a clause is split.
    Value(usize),
    /// Never holds.
    Never,
}

/// Conditions that hold together, sorted; none of them: any value.
pub(super) type Terms = Vec<Term>;

/// Where a condition is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub id: Id,
    pub keyword: &'static str,
}

/// The end of a range of numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub limit: Num,
    pub exclusive: bool,
    pub at: At,
}

/// How long a text is, how many items or members there are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    pub min: u64,
    pub min_at: Option<At>,
    pub max: Option<u64>,
    pub max_at: Option<At>,
}

/// So many items fit.
#[derive(Debug, Clone)]
pub(super) struct Contains {
    pub item: Term,
    pub min: u64,
    pub max: Option<u64>,
    pub at: At,
}

/// `properties`, `patternProperties` and `additionalProperties` that stand together.
#[derive(Debug, Clone)]
pub(super) struct Members<'a> {
    pub named: BTreeMap<&'a str, Term>,
    pub patterns: Vec<(&'a str, Term)>,
    /// All other names; none: any value.
    pub others: Option<Term>,
    pub at: Id,
}

/// A keyword that is not taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opaque {
    pub at: At,
    pub negated: bool,
}

/// One alternative for values of one kind.
#[derive(Debug, Clone)]
pub(super) struct Clause<'a> {
    pub kind: Kind,
    /// One of these, where they are counted.
    pub values: Option<Vec<Rc<Value>>>,
    pub values_at: Option<At>,
    /// None of these.
    pub not_values: Vec<(Rc<Value>, At)>,
    /// Outside of these, as another branch of `oneOf` stands for them.
    pub outside: Vec<Id>,
    pub opaque: Vec<Opaque>,

    pub lower: Option<Bound>,
    pub upper: Option<Bound>,
    pub whole: Option<At>,
    /// Not a whole number.
    pub broken: bool,
    pub steps: Vec<(Num, At)>,

    pub size: Size,
    pub patterns: Vec<(&'a str, At)>,
    pub formats: Vec<(&'a str, At)>,

    pub first: Vec<Terms>,
    pub rest: Terms,
    /// `items` is one schema for all of them.
    pub listed: Option<At>,
    pub unique: Option<At>,
    pub contains: Vec<Contains>,

    pub members: Vec<Members<'a>>,
    pub required: BTreeMap<&'a str, At>,
    pub names: Terms,
    pub dependent: Vec<(&'a str, Vec<&'a str>, At)>,
    pub dependent_schemas: Vec<(&'a str, Term, At)>,
}

impl<'a> Clause<'a> {
    /// Makes the clause that every value of a kind fits.
    pub(super) fn any(kind: Kind) -> Self {
        let counted = |values: &[Value]| Some(values.iter().cloned().map(Rc::new).collect());
        Self {
            kind,
            values: match kind {
                Kind::Null => counted(&[Value::Null]),
                Kind::Boolean => counted(&[Value::Bool(false), Value::Bool(true)]),
                Kind::Number | Kind::Text | Kind::Array | Kind::Object => None,
            },
            values_at: None,
            not_values: Vec::new(),
            outside: Vec::new(),
            opaque: Vec::new(),
            lower: None,
            upper: None,
            whole: None,
            broken: false,
            steps: Vec::new(),
            size: Size::default(),
            patterns: Vec::new(),
            formats: Vec::new(),
            first: Vec::new(),
            rest: Vec::new(),
            listed: None,
            unique: None,
            contains: Vec::new(),
            members: Vec::new(),
            required: BTreeMap::new(),
            names: Vec::new(),
            dependent: Vec::new(),
            dependent_schemas: Vec::new(),
        }
    }

    /// Makes the clause of counted values.
    pub(super) fn counted(kind: Kind, values: Vec<Rc<Value>>, at: Option<At>) -> Self {
        Self { values: Some(values), values_at: at, ..Self::any(kind) }
    }

    /// True where nothing is asked but the kind.
    pub(super) fn is_any(&self) -> bool {
        let Self { size, .. } = self;
        (self.values.is_none() || matches!(self.kind, Kind::Null | Kind::Boolean) && self.values_at.is_none())
            && self.not_values.is_empty()
            && self.outside.is_empty()
            && self.opaque.is_empty()
            && self.lower.is_none()
            && self.upper.is_none()
            && self.whole.is_none()
            && !self.broken
            && self.steps.is_empty()
            && size.min == 0
            && size.max.is_none()
            && self.patterns.is_empty()
            && self.formats.is_empty()
            && self.first.is_empty()
            && self.rest.is_empty()
            && self.unique.is_none()
            && self.contains.is_empty()
            && self.members.is_empty()
            && self.required.is_empty()
            && self.names.is_empty()
            && self.dependent.is_empty()
            && self.dependent_schemas.is_empty()
    }

    /// Returns the clause of values that fit both; both are of the same kind.
    pub(super) fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.values = match (&self.values, &other.values) {
            (Some(a), Some(b)) => Some(a.iter().filter(|a| b.iter().any(|b| equal(a, b))).cloned().collect()),
            (one, None) | (None, one) => one.clone(),
        };
        both.values_at = self.values_at.or(other.values_at);
        both.not_values.extend(other.not_values.iter().cloned());
        extend(&mut both.outside, &other.outside);
        extend(&mut both.opaque, &other.opaque);
        both.lower = tighter(self.lower, other.lower, |a, b| a.limit > b.limit);
        both.upper = tighter(self.upper, other.upper, |a, b| a.limit < b.limit);
        both.whole = self.whole.or(other.whole);
        both.broken |= other.broken;
        both.steps.extend(other.steps.iter().copied());
        if other.size.min > self.size.min {
            (both.size.min, both.size.min_at) = (other.size.min, other.size.min_at);
        }
        if other.size.max.is_some_and(|max| self.size.max.is_none_or(|own| max < own)) {
            (both.size.max, both.size.max_at) = (other.size.max, other.size.max_at);
        }
        extend(&mut both.patterns, &other.patterns);
        extend(&mut both.formats, &other.formats);
        let length = self.first.len().max(other.first.len());
        both.first = (0..length).map(|at| joined(self.item(at), other.item(at))).collect();
        both.rest = joined(&self.rest, &other.rest);
        both.listed = self.listed.or(other.listed);
        both.unique = self.unique.or(other.unique);
        both.contains.extend(other.contains.iter().cloned());
        both.members.extend(other.members.iter().cloned());
        for (name, at) in &other.required {
            both.required.entry(name).or_insert(*at);
        }
        both.names = joined(&self.names, &other.names);
        both.dependent.extend(other.dependent.iter().cloned());
        both.dependent_schemas.extend(other.dependent_schemas.iter().cloned());
        both
    }

    /// Returns what the item at an index has to fit.
    pub(super) fn item(&self, at: usize) -> &Terms {
        self.first.get(at).unwrap_or(&self.rest)
    }

    /// True if a keyword of [`Members`] speaks of the name itself.
    pub(super) fn names_member(&self, name: &str) -> bool {
        self.members.iter().any(|members| members.named.contains_key(name))
    }
}

fn extend<T: PartialEq + Clone>(all: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
}

fn tighter(a: Option<Bound>, b: Option<Bound>, is_tighter: impl Fn(&Bound, &Bound) -> bool) -> Option<Bound> {
    match (a, b) {
        (Some(a), Some(b)) if is_tighter(&b, &a) || (a.limit == b.limit && b.exclusive) => Some(b),
        (Some(a), Some(_)) => Some(a),
        (one, None) | (None, one) => one,
    }
}

/// Returns the conditions of both.
pub(super) fn joined(a: &[Term], b: &[Term]) -> Terms {
    let mut both: Terms = a.iter().chain(b).cloned().collect();
    both.sort();
    both.dedup();
    both
}
