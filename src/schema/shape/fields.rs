//! The members of an object: what a schema declares, or what an expression puts together. Looked up one by
//! one: a schema may refer to itself through the data, so the whole of it is never unfolded.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Shape;
use super::of_schema::Place;

/// What is known of one member.
#[derive(Debug, Clone)]
pub enum Field {
    /// Declared; `always` where the object cannot be without it.
    Declared { shape: Shape, always: bool },
    /// Not declared among those that are; `closed` where no other may be there.
    Missing { closed: bool },
    /// Nothing is known.
    Unknown,
}

/// The members of an object.
#[derive(Debug)]
pub enum Fields {
    /// These members; with `true` one that is always there. `closed`: and no others.
    Known { members: BTreeMap<String, (Shape, bool)>, closed: bool },
    /// Declared by a schema.
    Schema(Place),
    /// One or the other.
    Either(Rc<Fields>, Rc<Fields>),
    /// Both at once.
    Both(Rc<Fields>, Rc<Fields>),
}

/// The items of a list, looked at when somebody does.
#[derive(Debug, Clone)]
pub enum Items {
    Known(Rc<Shape>),
    Schema(Place),
    Either(Box<Items>, Box<Items>),
    Both(Box<Items>, Box<Items>),
}

impl Items {
    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Known(shape) => (**shape).clone(),
            Self::Schema(place) => place.shape(0),
            Self::Either(a, b) => a.shape().either(b.shape()),
            Self::Both(a, b) => a.shape().both(b.shape()),
        }
    }
}

impl Fields {
    /// Members that a file puts together itself: these, always, and no others.
    #[must_use]
    pub fn built(members: impl IntoIterator<Item = (String, Shape)>) -> Self {
        Self::Known { members: members.into_iter().map(|(name, shape)| (name, (shape, true))).collect(), closed: true }
    }

    pub(super) fn get(&self, name: &str) -> Field {
        match self {
            Self::Known { members, closed } => match members.get(name) {
                Some((shape, always)) => Field::Declared { shape: shape.clone(), always: *always },
                None => Field::Missing { closed: *closed },
            },
            Self::Schema(place) => place.field(name),
            Self::Either(a, b) => match (a.get(name), b.get(name)) {
                (Field::Unknown, _) | (_, Field::Unknown) => Field::Unknown,
                (Field::Missing { closed: a }, Field::Missing { closed: b }) => Field::Missing { closed: a && b },
                (Field::Declared { shape: a, always: x }, Field::Declared { shape: b, always: y }) => {
                    Field::Declared { shape: a.either(b), always: x && y }
                }
                (Field::Declared { shape, .. }, Field::Missing { closed })
                | (Field::Missing { closed }, Field::Declared { shape, .. }) => {
                    // Where the other may hold more than it declares, anything may be under this name.
                    let shape = if closed { shape.or_null() } else { Shape::any() };
                    Field::Declared { shape, always: false }
                }
            },
            Self::Both(a, b) => match (a.get(name), b.get(name)) {
                (Field::Declared { shape: a, always: x }, Field::Declared { shape: b, always: y }) => {
                    Field::Declared { shape: a.both(b), always: x || y }
                }
                (declared @ Field::Declared { .. }, _) | (_, declared @ Field::Declared { .. }) => declared,
                (Field::Missing { closed: a }, Field::Missing { closed: b }) => Field::Missing { closed: a || b },
                (Field::Missing { closed }, Field::Unknown) | (Field::Unknown, Field::Missing { closed }) => {
                    Field::Missing { closed }
                }
                (Field::Unknown, Field::Unknown) => Field::Unknown,
            },
        }
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        match self {
            Self::Known { members, .. } => members.keys().cloned().collect(),
            Self::Schema(place) => place.names(),
            Self::Either(a, b) | Self::Both(a, b) => &a.names() | &b.names(),
        }
    }

    pub(super) fn required(&self) -> BTreeSet<String> {
        match self {
            Self::Known { members, .. } => {
                members.iter().filter(|(_, (_, always))| *always).map(|(name, _)| name.clone()).collect()
            }
            Self::Schema(place) => place.required(),
            Self::Either(a, b) => &a.required() & &b.required(),
            Self::Both(a, b) => &a.required() | &b.required(),
        }
    }
}
