//! The small evaluator: forms that yield exactly one value, run directly on the raw text of documents.
//! Where it cannot answer exactly as jq would (an error, a fraction, a comparison of containers) it
//! says [`Stop::Unsure`], and jq is asked.

use std::borrow::Cow;
use std::cmp::Ordering;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::ops::{Cmp, Math};
use jaq_core::path::{Opt, Part};

use super::fence::{Fenced, offset};
use super::json::{Kind, Value};

/// Work of one evaluation: nodes visited, plus one per 64 bytes of text looked at. A predicate takes
/// about ten; a map over 10,000 lines about half a million.
pub const WORK_MAX: u64 = 1_000_000;

#[derive(Debug)]
enum Node {
    Null,
    Bool(bool),
    Int(i64),
    /// A fraction or a number above `i64`, as it is written.
    Number(Box<str>),
    Text(Box<str>),
    /// `.`
    Dot,
    Variable(usize),
    Path(Box<Node>, Vec<Step>),
    Array(Vec<Node>),
    Object(Vec<(Node, Node)>),
    Concat(Vec<Node>),
    Alternative(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Compare(Cmp, Box<Node>, Box<Node>),
    Math(Math, Box<Node>, Box<Node>),
    Negate(Box<Node>),
    If(Vec<(Node, Node)>, Option<Box<Node>>),
    Pipe(Box<Node>, Box<Node>),
    Map(Box<Node>),
    Not,
    Length,
    Add,
    ToString,
}

#[derive(Debug)]
enum Step {
    Member(Box<str>),
    Element(i64),
}

/// Why the small evaluator gave no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Ask jq.
    Unsure,
    /// The budget is used up; jq would use up its own.
    Exhausted,
}

/// An expression that the small evaluator can run.
#[derive(Debug)]
pub(super) struct Program(Node);

impl Program {
    /// Compiles the expression if every form in it is one of ours.
    pub(super) fn compile(source: &str, fenced: &Fenced<'_>) -> Option<Self> {
        Lower { source, fenced }.node(&fenced.term).map(Self)
    }

    /// Runs it with the variables' values in the order of the fence's names.
    pub(super) fn run<'a>(&'a self, variables: &[Value<'a>]) -> Result<Value<'a>, Stop> {
        let mut run = Run { variables, left: WORK_MAX };
        run.node(&self.0, &Value::Null)
    }
}

struct Lower<'s, 'f> {
    source: &'s str,
    fenced: &'f Fenced<'s>,
}

impl<'s> Lower<'s, '_> {
    fn boxed(&self, term: &Term<&'s str>) -> Option<Box<Node>> {
        self.node(term).map(Box::new)
    }

    fn node(&self, term: &Term<&'s str>) -> Option<Node> {
        Some(match term {
            Term::Id => Node::Dot,
            Term::Num(text) => match text.parse() {
                Ok(number) => Node::Int(number),
                Err(_) => Node::Number(serde_json::from_str::<&serde_json::value::RawValue>(text).ok()?.get().into()),
            },
            Term::Str(None, parts) => self.text(parts)?,
            Term::Arr(None) => Node::Array(Vec::new()),
            Term::Arr(Some(items)) => {
                let mut nodes = Vec::new();
                self.items(items, &mut nodes)?;
                Node::Array(nodes)
            }
            Term::Obj(members) => {
                let member = |(key, value): &(Term<&'s str>, Option<Term<&'s str>>)| {
                    Some(match (key, value) {
                        (key, Some(value)) => (self.node(key)?, self.node(value)?),
                        // `{$input}` and `{sku}`
                        (Term::Var(name), None) => {
                            (Node::Text(name.trim_start_matches('$').into()), self.variable(name)?.0)
                        }
                        (Term::Str(None, parts), None) => match parts.as_slice() {
                            [StrPart::Str(key)] => (
                                Node::Text((*key).into()),
                                Node::Path(Box::new(Node::Dot), vec![Step::Member((*key).into())]),
                            ),
                            _ => return None,
                        },
                        _ => return None,
                    })
                };
                Node::Object(members.iter().map(member).collect::<Option<_>>()?)
            }
            Term::Neg(term) => Node::Negate(self.boxed(term)?),
            Term::BinOp(left, op, right) => {
                let (left, right) = (self.boxed(left)?, self.boxed(right)?);
                match op {
                    BinaryOp::Pipe(None) => Node::Pipe(left, right),
                    BinaryOp::Alt => Node::Alternative(left, right),
                    BinaryOp::Or => Node::Or(left, right),
                    BinaryOp::And => Node::And(left, right),
                    BinaryOp::Math(op) => Node::Math(*op, left, right),
                    BinaryOp::Cmp(op) => Node::Compare(*op, left, right),
                    BinaryOp::Pipe(Some(_))
                    | BinaryOp::Comma
                    | BinaryOp::Assign
                    | BinaryOp::Update
                    | BinaryOp::UpdateMath(_)
                    | BinaryOp::UpdateAlt => return None,
                }
            }
            Term::IfThenElse(branches, otherwise) => {
                let branch = |(condition, then): &(Term<&'s str>, Term<&'s str>)| {
                    Some((self.node(condition)?, self.node(then)?))
                };
                let otherwise = match otherwise {
                    Some(term) => Some(self.boxed(term)?),
                    None => None,
                };
                Node::If(branches.iter().map(branch).collect::<Option<_>>()?, otherwise)
            }
            Term::Call(name, args) => match (*name, args.as_slice()) {
                ("null", []) => Node::Null,
                ("true", []) => Node::Bool(true),
                ("false", []) => Node::Bool(false),
                ("not", []) => Node::Not,
                ("length", []) => Node::Length,
                ("add", []) => Node::Add,
                ("tostring", []) => Node::ToString,
                ("map", [body]) => Node::Map(self.boxed(body)?),
                _ => return None,
            },
            Term::Var(name) => self.variable(name)?.0,
            Term::Path(head, path) => {
                let (head, keys) = match &**head {
                    Term::Var(name) => self.variable(name)?,
                    head => (self.node(head)?, 0),
                };
                let step = |(part, optional): &(Part<Term<&'s str>>, Opt)| match (part, optional) {
                    (Part::Index(index), Opt::Essential) => match self.node(index)? {
                        Node::Text(key) => Some(Step::Member(key)),
                        Node::Int(index) => Some(Step::Element(index)),
                        Node::Negate(index) => match *index {
                            Node::Int(index) => index.checked_neg().map(Step::Element),
                            _ => None,
                        },
                        _ => None,
                    },
                    (Part::Index(_) | Part::Range(..), _) => None,
                };
                let steps: Vec<_> = path.0.iter().skip(keys).map(step).collect::<Option<_>>()?;
                if steps.is_empty() { head } else { Node::Path(Box::new(head), steps) }
            }
            Term::Str(Some(_), _)
            | Term::Recurse
            | Term::Label(..)
            | Term::Break(_)
            | Term::Fold(..)
            | Term::TryCatch(..)
            | Term::Def(..) => return None,
        })
    }

    /// `[a, b, c]`
    fn items(&self, term: &Term<&'s str>, out: &mut Vec<Node>) -> Option<()> {
        match term {
            Term::BinOp(left, BinaryOp::Comma, right) => {
                self.items(left, out)?;
                self.items(right, out)
            }
            term => {
                out.push(self.node(term)?);
                Some(())
            }
        }
    }

    fn text(&self, parts: &[StrPart<&'s str, Term<&'s str>>]) -> Option<Node> {
        let mut nodes = Vec::new();
        let mut literal = String::new();
        for part in parts {
            match part {
                StrPart::Str(text) => literal.push_str(text),
                StrPart::Char(char) => literal.push(*char),
                StrPart::Term(term) => {
                    if !literal.is_empty() {
                        nodes.push(Node::Text(std::mem::take(&mut literal).into()));
                    }
                    nodes.push(self.node(term)?);
                }
            }
        }
        if nodes.is_empty() {
            return Some(Node::Text(literal.into()));
        }
        if !literal.is_empty() {
            nodes.push(Node::Text(literal.into()));
        }
        Some(Node::Concat(nodes))
    }

    /// Returns a variable and how many keys of its path belong to it; `None` for one bound by `as`.
    fn variable(&self, name: &str) -> Option<(Node, usize)> {
        let start = offset(self.source, name);
        let read = self.fenced.reads.iter().find(|read| read.span.start == start)?;
        let keys = match name {
            "$steps" => 2,
            "$step" | "$forward" => 1,
            _ => 0,
        };
        Some((Node::Variable(read.slot), keys))
    }
}

struct Run<'a, 'v> {
    variables: &'v [Value<'a>],
    left: u64,
}

impl<'a> Run<'a, '_> {
    fn charge(&mut self, work: u64) -> Result<(), Stop> {
        self.left = self.left.checked_sub(work).ok_or(Stop::Exhausted)?;
        Ok(())
    }

    /// Pays for looking through a value, or for cloning it.
    fn look(&mut self, value: &Value<'_>) -> Result<(), Stop> {
        self.charge(value.nodes())
    }

    fn node(&mut self, node: &'a Node, dot: &Value<'a>) -> Result<Value<'a>, Stop> {
        self.charge(1)?;
        Ok(match node {
            Node::Null => Value::Null,
            Node::Bool(bool) => Value::Bool(*bool),
            Node::Int(number) => Value::Int(*number),
            Node::Number(text) => Value::Raw(text),
            Node::Text(text) => Value::Text(Cow::Borrowed(text)),
            Node::Dot => {
                self.look(dot)?;
                dot.clone()
            }
            Node::Variable(slot) => self.variables.get(*slot).cloned().ok_or(Stop::Unsure)?,
            Node::Path(head, steps) => self.path(head, steps, dot)?,
            Node::Array(items) => {
                Value::Array(items.iter().map(|item| self.node(item, dot)).collect::<Result<_, _>>()?)
            }
            Node::Object(members) => {
                let mut out: Vec<(Cow<'a, str>, Value<'a>)> = Vec::with_capacity(members.len());
                for (key, value) in members {
                    let Value::Text(key) = self.node(key, dot)? else { return Err(Stop::Unsure) };
                    let value = self.node(value, dot)?;
                    match out.iter_mut().find(|(name, _)| *name == key) {
                        Some((_, old)) => *old = value,
                        None => out.push((key, value)),
                    }
                }
                Value::Object(out)
            }
            Node::Concat(parts) => {
                let mut out = String::new();
                for part in parts {
                    let value = self.node(part, dot)?;
                    out.push_str(&text_of(value)?);
                }
                self.charge(out.len() as u64 / 64)?;
                Value::Text(Cow::Owned(out))
            }
            Node::Alternative(left, right) => {
                let left = self.node(left, dot)?;
                if left.truthy() { left } else { self.node(right, dot)? }
            }
            Node::And(left, right) => Value::Bool(self.node(left, dot)?.truthy() && self.node(right, dot)?.truthy()),
            Node::Or(left, right) => Value::Bool(self.node(left, dot)?.truthy() || self.node(right, dot)?.truthy()),
            Node::Compare(op, left, right) => {
                let order = self.node(left, dot)?.compare(&self.node(right, dot)?).ok_or(Stop::Unsure)?;
                Value::Bool(match op {
                    Cmp::Lt => order == Ordering::Less,
                    Cmp::Le => order != Ordering::Greater,
                    Cmp::Gt => order == Ordering::Greater,
                    Cmp::Ge => order != Ordering::Less,
                    Cmp::Eq => order == Ordering::Equal,
                    Cmp::Ne => order != Ordering::Equal,
                })
            }
            Node::Math(op, left, right) => {
                let left = self.node(left, dot)?;
                let right = self.node(right, dot)?;
                self.math(*op, left, right)?
            }
            Node::Negate(value) => match self.node(value, dot)? {
                Value::Int(number) => Value::Int(number.checked_neg().ok_or(Stop::Unsure)?),
                _ => return Err(Stop::Unsure),
            },
            Node::If(branches, otherwise) => {
                for (condition, then) in branches {
                    if self.node(condition, dot)?.truthy() {
                        return self.node(then, dot);
                    }
                }
                match otherwise {
                    Some(node) => self.node(node, dot)?,
                    None => dot.clone(),
                }
            }
            Node::Pipe(left, right) => {
                let value = self.node(left, dot)?;
                self.node(right, &value)?
            }
            Node::Map(body) => {
                self.look(dot)?;
                let items = dot.children().ok_or(Stop::Unsure)?;
                Value::Array(items.iter().map(|item| self.node(body, item)).collect::<Result<_, _>>()?)
            }
            Node::Not => Value::Bool(!dot.truthy()),
            Node::Length => {
                self.look(dot)?;
                Value::Int(dot.length().ok_or(Stop::Unsure)?)
            }
            Node::Add => {
                self.look(dot)?;
                let mut sum = Value::Null;
                for item in dot.children().ok_or(Stop::Unsure)? {
                    sum = self.math(Math::Add, sum, item)?;
                }
                sum
            }
            Node::ToString => {
                self.look(dot)?;
                Value::Text(text_of(dot.clone())?)
            }
        })
    }

    fn path(&mut self, head: &'a Node, steps: &'a [Step], dot: &Value<'a>) -> Result<Value<'a>, Stop> {
        let mut value = match head {
            Node::Dot => None,
            head => Some(self.node(head, dot)?),
        };
        for step in steps {
            let from = value.as_ref().unwrap_or(dot);
            self.look(from)?;
            let next = match step {
                Step::Member(key) => from.member(key),
                Step::Element(index) => from.element(*index),
            };
            value = Some(next.ok_or(Stop::Unsure)?);
        }
        value.ok_or(Stop::Unsure)
    }

    fn math(&mut self, op: Math, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>, Stop> {
        Ok(match (op, left, right) {
            (Math::Add, Value::Null, value) | (Math::Add, value, Value::Null) => value,
            (Math::Add, Value::Text(left), Value::Text(right)) => {
                self.charge((left.len() + right.len()) as u64 / 64)?;
                let mut text = left.into_owned();
                text.push_str(&right);
                Value::Text(Cow::Owned(text))
            }
            (op, Value::Int(left), Value::Int(right)) => Value::Int(
                match op {
                    Math::Add => left.checked_add(right),
                    Math::Sub => left.checked_sub(right),
                    Math::Mul => left.checked_mul(right),
                    Math::Rem => left.checked_rem(right),
                    Math::Div => None, // jq's quotient is a fraction
                }
                .ok_or(Stop::Unsure)?,
            ),
            _ => return Err(Stop::Unsure),
        })
    }
}

/// Returns a scalar as text, as jq's interpolation does.
fn text_of(value: Value<'_>) -> Result<Cow<'_, str>, Stop> {
    Ok(match value {
        Value::Text(text) => text,
        Value::Null => Cow::Borrowed("null"),
        Value::Bool(bool) => Cow::Borrowed(if bool { "true" } else { "false" }),
        Value::Int(number) => Cow::Owned(number.to_string()),
        Value::Raw(text) if Value::Raw(text).kind() == Kind::Number => Cow::Borrowed(text),
        Value::Raw(_) | Value::Array(_) | Value::Object(_) => return Err(Stop::Unsure),
    })
}
