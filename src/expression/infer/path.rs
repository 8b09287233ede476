//! Paths: a member that nobody declares, a member of what has none.

use std::ops::Range;

use jaq_core::load::parse::Term;
use jaq_core::path::{Opt, Part};

use super::{Infer, real};
use crate::expression::fence::literal_key;
use crate::expression::suggest;
use crate::schema::shape::{Field, Kinds, Shape};

/// Declared members that a help line lists.
const NAMES_SHOWN_MAX: usize = 8;

impl<'s> Infer<'s, '_> {
    pub(super) fn path(
        &mut self,
        head: &Term<&'s str>,
        parts: &[(Part<Term<&'s str>>, Opt)],
        dot: &Shape,
        guarded: bool,
    ) -> Shape {
        let (mut shape, keys) = match head {
            Term::Var(name) => self.variable(name),
            head => (self.term(head, dot, guarded), 0),
        };
        let guarded = guarded || parts.iter().any(|(_, optional)| matches!(optional, Opt::Optional));
        for (part, optional) in parts.iter().skip(keys) {
            let said = self.mistakes.len();
            shape = self.part(&shape, part, dot, guarded);
            if matches!(optional, Opt::Optional) {
                // `?` says: an error here is meant. A property that cannot be there is none of those.
                let later: Vec<_> = self.mistakes.drain(said..).filter(|mistake| mistake.code == "X010").collect();
                self.mistakes.extend(later);
            }
        }
        shape
    }

    fn part(&mut self, shape: &Shape, part: &Part<Term<&'s str>>, dot: &Shape, guarded: bool) -> Shape {
        if let Some(key) = literal_key(part) {
            return self.field(shape, key, self.span(key), guarded);
        }
        match part {
            Part::Index(index) => {
                let by = self.term(index, dot, guarded);
                let span = self.extent(index);
                let real = real(shape);
                if !real.meets(Kinds::ARRAY)
                    && by.kinds == Kinds::NUMBER
                    && real != Kinds::NULL
                    && !shape.is_impossible()
                {
                    let message = format!("this is {real} and has no numbered items");
                    self.mistake("X011", span, message, Some("only a list has items by number".to_owned()));
                    return Shape::any();
                }
                if by.kinds == Kinds::NUMBER { shape.items().or_null() } else { Shape::any() }
            }
            Part::Range(None, None) => {
                let real = real(shape);
                if !real.meets(Kinds::ARRAY.or(Kinds::OBJECT)) && !shape.is_impossible() {
                    // The brackets are no slice of their own: point at what stands before them.
                    let span = self.before_brackets();
                    let message = format!("`[]` goes through a list or an object; this is {real}");
                    self.mistake("X011", span, message, None);
                    return Shape::any();
                }
                if shape.kinds.without(Kinds::NULL) == Kinds::ARRAY { shape.items() } else { Shape::any() }
            }
            Part::Range(from, to) => {
                from.iter().chain(to).for_each(|bound| drop(self.term(bound, dot, guarded)));
                shape.clone().limited(Kinds::ARRAY.or(Kinds::STRING).or(Kinds::NULL))
            }
        }
    }

    fn before_brackets(&self) -> Range<usize> {
        self.source.find("[]").map_or(0..self.source.len(), |at| at..at + "[]".len())
    }

    /// Returns what a member is, and says so where there is none.
    pub(super) fn field(&mut self, shape: &Shape, key: &str, span: Range<usize>, guarded: bool) -> Shape {
        if shape.is_impossible() {
            return Shape::any();
        }
        if !shape.kinds.meets(Kinds::OBJECT) {
            if shape.kinds == Kinds::NULL {
                return Shape::of(Kinds::NULL);
            }
            let real = real(shape);
            let help = real
                .meets(Kinds::ARRAY)
                .then(|| "go through its items: `.[]`, `map(…)`, or take one: `.[0]`".to_owned());
            self.mistake("X011", span, format!("this is {real} and has no member `{key}`"), help);
            return Shape::any();
        }
        let absent = shape.kinds.meets(Kinds::NULL);
        match shape.field(key) {
            Field::Declared { shape, always: true } if !absent => shape,
            Field::Declared { shape, .. } => shape.or_null(),
            Field::Unknown => Shape::any(),
            Field::Missing { closed } => {
                let names = shape.names();
                let near = suggest(key, names.iter().map(String::as_str));
                let help = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if names.is_empty() => "it has no members".to_owned(),
                    None => {
                        let shown: Vec<&str> = names.iter().take(NAMES_SHOWN_MAX).map(String::as_str).collect();
                        let more = if names.len() > NAMES_SHOWN_MAX { ", …" } else { "" };
                        format!("it has {}{more}", shown.join(", "))
                    }
                };
                let message = format!("there is no such property: `{key}`");
                match (closed, near, guarded) {
                    (true, _, _) | (false, Some(_), false) => self.mistake("X010", span, message, Some(help)),
                    (false, Some(_), true) => self.warning("X010", span, message, Some(help)),
                    // An open schema allows more than it declares.
                    (false, None, _) => {}
                }
                Shape::any()
            }
        }
    }
}
