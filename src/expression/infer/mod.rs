//! What kind of value an expression yields, worked out before there is data, and what can be seen to be
//! wrong by that: a property that no schema has, arithmetic on text. Says something only where no value that
//! fits the schemas could make it right; the rules are in `docs/language.md`.

mod functions;
mod operators;
mod path;
#[cfg(test)]
mod tests;

use std::ops::Range;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{Pattern, Term};
use jaq_core::path::Part;

use super::fence::{self, offset};
use super::names::{Allowed, Name, Read, Root};
use super::{Expression, Template};
use crate::schema::shape::{Fields, Kinds, Shape};

/// Knows the variables' shapes.
pub trait Known {
    /// Returns what is known of a variable's value.
    fn shape(&self, name: &Name) -> Shape;

    /// Returns what the steps around bind.
    fn locals(&self) -> &[(String, Name)] {
        &[]
    }
}

/// Something that no data can make right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub code: &'static str,
    /// Bytes of the expression's source.
    pub span: Range<usize>,
    pub message: String,
    pub help: Option<String>,
    /// True where it may still be meant.
    pub warning: bool,
}

impl Expression {
    /// Works out what the expression yields.
    #[must_use]
    pub fn infer(&self, known: &dyn Known) -> Shape {
        infer(&self.source, known).0
    }
}

/// Works out what the source of an expression yields, and what is wrong with it. Of a source that does not
/// compile nothing is known.
#[must_use]
pub fn infer(source: &str, known: &dyn Known) -> (Shape, Vec<Mistake>) {
    // Which variables its place allows was asked when it was compiled.
    let Ok(fenced) = fence::fence(source, Allowed { roots: Root::ALL, locals: known.locals() }) else {
        return (Shape::any(), Vec::new());
    };
    let mut infer = Infer { source, reads: &fenced.reads, known, locals: Vec::new(), mistakes: Vec::new() };
    let shape = infer.term(&fenced.term, &Shape::of(Kinds::NULL), false);
    (shape, infer.mistakes)
}

impl Template {
    /// Works out what the template yields.
    #[must_use]
    pub fn infer(&self, known: &dyn Known) -> Shape {
        use super::template::Node;
        match self.node() {
            Node::Literal(text) => serde_json::from_str(text).map_or_else(|_| Shape::any(), |value| of_value(&value)),
            Node::Expression(expression, _) => expression.infer(known),
            Node::Text(_) => Shape::of(Kinds::STRING),
            Node::Array(items) => {
                Shape::list(items.iter().map(|item| item.infer(known)).reduce(Shape::either).unwrap_or_else(Shape::any))
            }
            Node::Object(members) => {
                Shape::object(Fields::built(members.iter().map(|(key, value)| (key.clone(), value.infer(known)))))
            }
        }
    }
}

/// Returns the shape of a literal value.
#[must_use]
pub fn of_value(value: &serde_json::Value) -> Shape {
    use serde_json::Value;
    match value {
        Value::Null => Shape::of(Kinds::NULL),
        Value::Bool(_) => Shape::of(Kinds::BOOLEAN),
        Value::Number(_) => Shape::of(Kinds::NUMBER),
        Value::String(text) => Shape::words([text]),
        Value::Array(items) => Shape::list(items.iter().map(of_value).reduce(Shape::either).unwrap_or_else(Shape::any)),
        Value::Object(members) => {
            Shape::object(Fields::built(members.iter().map(|(key, value)| (key.clone(), of_value(value)))))
        }
    }
}

struct Infer<'s, 'k> {
    source: &'s str,
    reads: &'k [Read],
    known: &'k dyn Known,
    /// Variables that the expression binds itself.
    locals: Vec<(&'s str, Shape)>,
    mistakes: Vec<Mistake>,
}

impl<'s> Infer<'s, '_> {
    fn mistake(&mut self, code: &'static str, span: Range<usize>, message: String, help: Option<String>) {
        self.mistakes.push(Mistake { code, span, message, help, warning: false });
    }

    fn warning(&mut self, code: &'static str, span: Range<usize>, message: String, help: Option<String>) {
        self.mistakes.push(Mistake { code, span, message, help, warning: true });
    }

    /// Infers without a word about mistakes: under `try`, or where a path is assigned to.
    fn quiet(&mut self, term: &Term<&'s str>, dot: &Shape) -> Shape {
        let said = self.mistakes.len();
        let shape = self.term(term, dot, true);
        self.mistakes.truncate(said);
        shape
    }

    /// Returns the shape of each value that a term yields. `guarded`: null is provided for.
    fn term(&mut self, term: &Term<&'s str>, dot: &Shape, guarded: bool) -> Shape {
        match term {
            Term::Id => dot.clone(),
            Term::Num(_) => Shape::of(Kinds::NUMBER),
            Term::Str(format, parts) => {
                for part in parts {
                    if let StrPart::Term(term) = part {
                        self.term(term, dot, guarded);
                    }
                }
                match (format, parts.as_slice()) {
                    (None, []) => Shape::words([""]),
                    (None, [StrPart::Str(text)]) => Shape::words([*text]),
                    _ => Shape::of(Kinds::STRING),
                }
            }
            Term::Arr(None) => Shape::of(Kinds::ARRAY),
            Term::Arr(Some(term)) => Shape::list(self.term(term, dot, guarded)),
            Term::Obj(members) => self.object(members, dot, guarded),
            Term::Neg(term) => {
                let shape = self.term(term, dot, guarded);
                self.wants(&shape, Kinds::NUMBER, term, "`-`");
                Shape::of(Kinds::NUMBER)
            }
            Term::BinOp(left, op, right) => self.operation(left, op, right, dot, guarded),
            Term::Fold(_, source, pattern, args) => {
                let shape = self.term(source, dot, guarded);
                self.bound(pattern, &shape, dot, |infer| {
                    for (at, arg) in args.iter().enumerate() {
                        // The first is the beginning; the others see what has been gathered.
                        let dot = if at == 0 { dot.clone() } else { Shape::any() };
                        infer.term(arg, &dot, guarded);
                    }
                });
                Shape::any()
            }
            Term::TryCatch(body, handler) => {
                let body = self.quiet(body, dot);
                match handler {
                    Some(handler) => body.either(self.term(handler, &Shape::any(), guarded)),
                    None => body,
                }
            }
            Term::IfThenElse(branches, otherwise) => {
                let mut shapes = Vec::with_capacity(branches.len() + 1);
                for (condition, then) in branches {
                    self.term(condition, dot, true);
                    shapes.push(self.term(then, dot, true));
                }
                shapes.push(otherwise.as_ref().map_or_else(|| dot.clone(), |term| self.term(term, dot, true)));
                shapes.into_iter().reduce(Shape::either).unwrap_or_else(Shape::any)
            }
            Term::Call(name, args) => self.call(name, args, dot, guarded),
            Term::Var(name) => self.variable(name).0,
            Term::Path(head, path) => self.path(head, &path.0, dot, guarded),
            Term::Recurse | Term::Label(..) | Term::Break(_) | Term::Def(..) => Shape::any(),
        }
    }

    fn object(&mut self, members: &[(Term<&'s str>, Option<Term<&'s str>>)], dot: &Shape, guarded: bool) -> Shape {
        let (mut fields, mut named) = (Vec::with_capacity(members.len()), true);
        for (key, value) in members {
            let name = match key {
                Term::Str(None, parts) => match parts.as_slice() {
                    [StrPart::Str(text)] => Some(*text),
                    _ => None,
                },
                Term::Var(name) if value.is_none() => Some(name.trim_start_matches('$')),
                _ => None,
            };
            let shape = match (key, value) {
                (_, Some(value)) => self.term(value, dot, guarded),
                (Term::Var(name), None) => self.variable(name).0,
                (_, None) => match name {
                    // `{sku}` is `{sku: .sku}`
                    Some(name) => self.field(dot, name, self.span(name), guarded),
                    None => Shape::any(),
                },
            };
            match name {
                Some(name) => fields.push((name.to_owned(), shape)),
                None => {
                    self.term(key, dot, guarded);
                    named = false;
                }
            }
        }
        if named { Shape::object(Fields::built(fields)) } else { Shape::of(Kinds::OBJECT) }
    }

    /// Returns a variable's shape and how many keys of a path belong to it.
    fn variable(&self, name: &str) -> (Shape, usize) {
        if let Some((_, shape)) = self.locals.iter().rev().find(|(local, _)| *local == name) {
            return (shape.clone(), 0);
        }
        let start = offset(self.source, name);
        let Some(read) = self.reads.iter().find(|read| read.span.start == start) else { return (Shape::any(), 0) };
        let keys = match name {
            "$steps" => 2,
            "$step" | "$forward" => 1,
            _ => 0,
        };
        (self.known.shape(&read.name), keys)
    }

    fn bound(&mut self, pattern: &Pattern<&'s str>, shape: &Shape, dot: &Shape, body: impl FnOnce(&mut Self)) {
        let before = self.locals.len();
        self.pattern(pattern, shape, dot);
        body(self);
        self.locals.truncate(before);
    }

    fn pattern(&mut self, pattern: &Pattern<&'s str>, shape: &Shape, dot: &Shape) {
        match pattern {
            Pattern::Var(name) => self.locals.push((name, shape.clone())),
            Pattern::Arr(items) => {
                let item = shape.items().or_null();
                items.iter().for_each(|pattern| self.pattern(pattern, &item, dot));
            }
            Pattern::Obj(members) => {
                for (key, pattern) in members {
                    self.term(key, dot, true);
                    self.pattern(pattern, &Shape::any(), dot);
                }
            }
        }
    }

    /// Says so where a value can be of none of the kinds that an operation takes.
    fn wants(&mut self, shape: &Shape, kinds: Kinds, term: &Term<&'s str>, what: &str) {
        let real = real(shape);
        if real.meets(kinds) || shape.is_impossible() {
            return;
        }
        let span = self.extent(term);
        self.mistake("X012", span, format!("{what} takes {kinds}; this is {real}"), None);
    }

    fn span(&self, part: &str) -> Range<usize> {
        let start = offset(self.source, part);
        start..(start + part.len()).min(self.source.len())
    }

    /// Returns the bytes that a term covers, as nearly as its parts tell.
    fn extent(&self, term: &Term<&'s str>) -> Range<usize> {
        let mut parts = Vec::new();
        leaves(term, &mut parts);
        let inside = |part: &&str| {
            let at = part.as_ptr() as usize;
            let base = self.source.as_ptr() as usize;
            at >= base && at + part.len() <= base + self.source.len()
        };
        let spans: Vec<Range<usize>> = parts.iter().filter(|part| inside(part)).map(|part| self.span(part)).collect();
        match (spans.iter().map(|span| span.start).min(), spans.iter().map(|span| span.end).max()) {
            (Some(start), Some(end)) => start..end,
            _ => 0..self.source.len(),
        }
    }
}

/// Returns the kinds of a value that is there: what is wrong even then is wrong.
fn real(shape: &Shape) -> Kinds {
    let real = shape.kinds.without(Kinds::NULL);
    if real == Kinds::NONE { shape.kinds } else { real }
}

/// Collects the pieces of source in a term.
fn leaves<'s>(term: &Term<&'s str>, out: &mut Vec<&'s str>) {
    match term {
        Term::Id | Term::Recurse | Term::Arr(None) => {}
        Term::Num(text) | Term::Var(text) | Term::Break(text) => out.push(text),
        Term::Str(format, parts) => {
            out.extend(format);
            for part in parts {
                match part {
                    StrPart::Str(text) => out.push(text),
                    StrPart::Term(term) => leaves(term, out),
                    StrPart::Char(_) => {}
                }
            }
        }
        Term::Arr(Some(term)) | Term::Neg(term) | Term::Label(_, term) | Term::Def(_, term) => leaves(term, out),
        Term::Obj(members) => {
            for (key, value) in members {
                leaves(key, out);
                value.iter().for_each(|value| leaves(value, out));
            }
        }
        Term::BinOp(left, _, right) => {
            leaves(left, out);
            leaves(right, out);
        }
        Term::Fold(name, source, _, args) => {
            out.push(name);
            leaves(source, out);
            args.iter().for_each(|arg| leaves(arg, out));
        }
        Term::TryCatch(body, handler) => {
            leaves(body, out);
            handler.iter().for_each(|handler| leaves(handler, out));
        }
        Term::IfThenElse(branches, otherwise) => {
            for (condition, then) in branches {
                leaves(condition, out);
                leaves(then, out);
            }
            otherwise.iter().for_each(|term| leaves(term, out));
        }
        Term::Call(name, args) => {
            out.push(name);
            args.iter().for_each(|arg| leaves(arg, out));
        }
        Term::Path(head, path) => {
            leaves(head, out);
            for (part, _) in &path.0 {
                match part {
                    Part::Index(index) => leaves(index, out),
                    Part::Range(from, to) => from.iter().chain(to).for_each(|bound| leaves(bound, out)),
                }
            }
        }
    }
}
