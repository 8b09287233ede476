//! What is known of a value before there is one: its kinds, its members, its items, the words it may be. A
//! shape never says more than a schema or an expression does; what nobody declared is [`Shape::any`].

mod fields;
mod of_schema;

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

pub use fields::{Field, Fields, Items};
pub use of_schema::Document;

/// Kinds of JSON values, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    pub const NONE: Self = Self(0);
    pub const NULL: Self = Self(1);
    pub const BOOLEAN: Self = Self(2);
    pub const NUMBER: Self = Self(4);
    pub const STRING: Self = Self(8);
    pub const ARRAY: Self = Self(16);
    pub const OBJECT: Self = Self(32);
    pub const ALL: Self = Self(63);

    const NAMED: [(Self, &'static str); 6] = [
        (Self::NULL, "null"),
        (Self::BOOLEAN, "a boolean"),
        (Self::NUMBER, "a number"),
        (Self::STRING, "text"),
        (Self::ARRAY, "a list"),
        (Self::OBJECT, "an object"),
    ];

    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// True if a value may be of one of the kinds in both sets.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// True if nothing in this set is outside the other.
    #[must_use]
    pub const fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            Self::NAMED.iter().filter(|(kind, _)| self.meets(*kind)).map(|(_, name)| *name).collect();
        f.write_str(&names.join(" or "))
    }
}

/// What is known of a value.
#[derive(Debug, Clone)]
pub struct Shape {
    pub kinds: Kinds,
    /// The members it has where it is an object; none: any.
    fields: Option<Rc<Fields>>,
    /// What its items are where it is a list; none: anything.
    items: Option<Items>,
    /// The only texts it can be, where they are few and known.
    words: Option<Rc<BTreeSet<String>>>,
    /// Shapes that this one was put together from.
    weight: u16,
}

/// Shapes that are put together into one before its members are given up: each is asked for every member.
const WEIGHT_MAX: u16 = 128;

impl Shape {
    /// Nothing is known.
    #[must_use]
    pub const fn any() -> Self {
        Self::of(Kinds::ALL)
    }

    /// A value of some kinds, nothing more known.
    #[must_use]
    pub const fn of(kinds: Kinds) -> Self {
        Self { kinds, fields: None, items: None, words: None, weight: 1 }
    }

    /// A list of items.
    #[must_use]
    pub fn list(items: Self) -> Self {
        Self { items: Some(Items::Known(Rc::new(items))), ..Self::of(Kinds::ARRAY) }
    }

    /// An object with members.
    #[must_use]
    pub fn object(fields: Fields) -> Self {
        Self { fields: Some(Rc::new(fields)), ..Self::of(Kinds::OBJECT) }
    }

    /// One of a few words.
    #[must_use]
    pub fn words(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { words: Some(Rc::new(words.into_iter().map(Into::into).collect())), ..Self::of(Kinds::STRING) }
    }

    /// Returns the texts it can be; none where they are not known.
    #[must_use]
    pub fn known_words(&self) -> Option<&BTreeSet<String>> {
        self.words.as_deref()
    }

    /// The same value, or null.
    #[must_use]
    pub fn or_null(mut self) -> Self {
        self.kinds = self.kinds.or(Kinds::NULL);
        self
    }

    /// The same value where it is of these kinds.
    #[must_use]
    pub fn limited(mut self, kinds: Kinds) -> Self {
        self.kinds = self.kinds.and(kinds);
        self
    }

    /// True where a schema or an expression contradicts itself: no value is of this shape, and nothing can be
    /// said of it.
    #[must_use]
    pub fn is_impossible(&self) -> bool {
        self.kinds == Kinds::NONE
    }

    /// Returns what a member is.
    #[must_use]
    pub fn field(&self, name: &str) -> Field {
        self.fields.as_ref().map_or(Field::Unknown, |fields| fields.get(name))
    }

    /// Returns the members that are declared, where any are.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.fields.as_ref().map(|fields| fields.names()).unwrap_or_default()
    }

    /// Returns the members that are always there.
    #[must_use]
    pub fn required(&self) -> BTreeSet<String> {
        self.fields.as_ref().map(|fields| fields.required()).unwrap_or_default()
    }

    /// Returns what the items of a list are.
    #[must_use]
    pub fn items(&self) -> Self {
        self.items.as_ref().map_or_else(Self::any, Items::shape)
    }

    fn grown(mut self, by: u16) -> Self {
        self.weight = self.weight.saturating_add(by);
        if self.weight > WEIGHT_MAX {
            self = Self::of(self.kinds);
        }
        self
    }

    /// What is true of a value that is one or the other.
    #[must_use]
    pub fn either(self, other: Self) -> Self {
        fn one<T>(
            a: &Shape,
            b: &Shape,
            kind: Kinds,
            part: impl Fn(&Shape) -> Option<T>,
            both: impl FnOnce(T, T) -> Option<T>,
        ) -> Option<T> {
            match (a.kinds.meets(kind), b.kinds.meets(kind)) {
                (true, true) => both(part(a)?, part(b)?),
                (true, false) => part(a),
                (false, true) => part(b),
                (false, false) => None,
            }
        }
        let fields =
            one(&self, &other, Kinds::OBJECT, |shape| shape.fields.clone(), |a, b| Some(Rc::new(Fields::Either(a, b))));
        let items = one(
            &self,
            &other,
            Kinds::ARRAY,
            |shape| shape.items.clone(),
            |a, b| Some(Items::Either(Box::new(a), Box::new(b))),
        );
        let words = one(&self, &other, Kinds::STRING, |shape| shape.words.clone(), |a, b| Some(Rc::new(&*a | &*b)));
        Self { kinds: self.kinds.or(other.kinds), fields, items, words, weight: self.weight }.grown(other.weight)
    }

    /// What is true of a value that is both at once.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        let fields = match (self.fields, other.fields) {
            (Some(a), Some(b)) => Some(Rc::new(Fields::Both(a, b))),
            (a, b) => a.or(b),
        };
        let items = match (self.items, other.items) {
            (Some(a), Some(b)) => Some(Items::Both(Box::new(a), Box::new(b))),
            (a, b) => a.or(b),
        };
        let words = match (self.words, other.words) {
            (Some(a), Some(b)) => Some(Rc::new(&*a & &*b)),
            (a, b) => a.or(b),
        };
        Self { kinds: self.kinds.and(other.kinds), fields, items, words, weight: self.weight }.grown(other.weight)
    }
}
