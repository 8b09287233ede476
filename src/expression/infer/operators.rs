//! Operators: arithmetic between kinds that do not go together, comparisons that can never be true.

use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::ops::{Cmp, Math};

use super::{Infer, real};
use crate::expression::suggest;
use crate::schema::shape::{Kinds, Shape};

impl<'s> Infer<'s, '_> {
    pub(super) fn operation(
        &mut self,
        left: &Term<&'s str>,
        op: &BinaryOp<&'s str>,
        right: &Term<&'s str>,
        dot: &Shape,
        guarded: bool,
    ) -> Shape {
        match op {
            BinaryOp::Pipe(None) => {
                let value = self.term(left, dot, guarded);
                self.term(right, &value, guarded)
            }
            BinaryOp::Pipe(Some(pattern)) => {
                let value = self.term(left, dot, guarded);
                let mut out = Shape::any();
                self.bound(pattern, &value, dot, |infer| out = infer.term(right, dot, guarded));
                out
            }
            BinaryOp::Comma => self.term(left, dot, guarded).either(self.term(right, dot, guarded)),
            BinaryOp::Alt => {
                let left = self.term(left, dot, true);
                let right = self.term(right, dot, guarded);
                let there = left.kinds.without(Kinds::NULL);
                if there == Kinds::NONE { right } else { left.limited(there).either(right) }
            }
            BinaryOp::Or | BinaryOp::And => {
                self.term(left, dot, guarded);
                self.term(right, dot, guarded);
                Shape::of(Kinds::BOOLEAN)
            }
            BinaryOp::Math(op) => self.math(*op, left, right, dot, guarded),
            BinaryOp::Cmp(op) => {
                let (a, b) = (self.term(left, dot, guarded), self.term(right, dot, guarded));
                self.comparison(*op, &a, &b, left, right);
                Shape::of(Kinds::BOOLEAN)
            }
            BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
                // What is assigned to need not be there before.
                self.quiet(left, dot);
                let inner = if matches!(op, BinaryOp::Update) { Shape::any() } else { dot.clone() };
                self.term(right, &inner, guarded);
                Shape::any()
            }
        }
    }

    fn math(&mut self, op: Math, left: &Term<&'s str>, right: &Term<&'s str>, dot: &Shape, guarded: bool) -> Shape {
        let (a, b) = (self.term(left, dot, guarded), self.term(right, dot, guarded));
        if a.is_impossible() || b.is_impossible() {
            return Shape::any();
        }
        let (x, y) = (real(&a), real(&b));
        let same = x.and(y);
        let literal = |term: &Term<&str>| matches!(term, Term::Str(..));
        let (sum, verb) = match op {
            Math::Add if a.kinds == Kinds::NULL || b.kinds == Kinds::NULL => (x.or(y), "add"),
            Math::Add => (same.without(Kinds::BOOLEAN).without(Kinds::NULL), "add"),
            Math::Sub => (same.and(Kinds::NUMBER.or(Kinds::ARRAY)), "subtract"),
            // `"=" * 20` repeats; data that is text is not meant to be repeated.
            Math::Mul if literal(left) || literal(right) => (Kinds::STRING, "multiply"),
            Math::Mul => (same.and(Kinds::NUMBER.or(Kinds::OBJECT)), "multiply"),
            Math::Div => (same.and(Kinds::NUMBER.or(Kinds::STRING)), "divide"),
            Math::Rem => (same.and(Kinds::NUMBER), "divide"),
        };
        if sum != Kinds::NONE {
            // Objects and lists change by it; numbers and text stay what they are.
            return if sum.within(Kinds::NUMBER.or(Kinds::STRING)) { Shape::of(sum) } else { Shape::any() };
        }
        let span = self.extent(left).start..self.extent(right).end;
        let message = match op {
            Math::Add => format!("cannot add {y} to {x}"),
            Math::Sub => format!("cannot subtract {y} from {x}"),
            Math::Mul | Math::Div | Math::Rem => format!("cannot {verb} {x} by {y}"),
        };
        let text = x.or(y).meets(Kinds::STRING) && x.or(y).meets(Kinds::NUMBER);
        let help = match op {
            Math::Add if text => "write a number into text with \"… \\( … )\", or make text a number with `tonumber`",
            _ if x.or(y).meets(Kinds::STRING) => "`tonumber` makes a number of text",
            _ => "both sides have to be of one kind",
        };
        self.mistake("X012", span.start..span.end.max(span.start), message, Some(help.to_owned()));
        Shape::any()
    }

    fn comparison(&mut self, op: Cmp, a: &Shape, b: &Shape, left: &Term<&'s str>, right: &Term<&'s str>) {
        if a.is_impossible() || b.is_impossible() || a.kinds.and(b.kinds) == Kinds::NULL {
            return;
        }
        let span = self.extent(left).start..self.extent(right).end.max(self.extent(left).start);
        let equal = matches!(op, Cmp::Eq | Cmp::Ne);
        let never = match op {
            Cmp::Eq => "these can never be equal",
            Cmp::Ne => "these always differ",
            Cmp::Lt | Cmp::Le | Cmp::Gt | Cmp::Ge => "different kinds are compared",
        };
        let (x, y) = if equal { (a.kinds, b.kinds) } else { (real(a), real(b)) };
        if !x.meets(y) {
            self.warning("X015", span, format!("{never}: {} and {}", real(a), real(b)), None);
            return;
        }
        if !equal || !x.and(y).within(Kinds::STRING) {
            return;
        }
        let (Some(first), Some(second)) = (a.known_words(), b.known_words()) else { return };
        if first.intersection(second).next().is_some() {
            return;
        }
        let (word, known) = if second.len() == 1 { (second, first) } else { (first, second) };
        let Some(word) = word.first() else { return };
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let help = match suggest(word, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("it is one of {}", names.join(", ")),
        };
        self.warning("X015", span, format!("{never}: the other side is never \"{word}\""), Some(help));
    }
}
