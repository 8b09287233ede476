//! Walks a parsed expression: every function must be on the list, every variable known and allowed.

use std::ops::Range;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Pattern, Term};
use jaq_core::path::Part;

use super::fence::{literal_key, offset};
use super::functions::{FUNCTIONS, left_out};
use super::names::{Allowed, CompileError, Name, Read, Root};

pub(super) struct Walk<'s, 'a> {
    pub source: &'s str,
    pub allowed: Allowed<'a>,
    pub locals: Vec<&'s str>,
    pub reads: Vec<Read>,
    pub names: Vec<Name>,
    pub errors: Vec<CompileError>,
}

impl<'s> Walk<'s, '_> {
    fn span(&self, part: &str) -> Range<usize> {
        let start = offset(self.source, part);
        start..(start + part.len()).min(self.source.len())
    }

    fn error(&mut self, code: &'static str, span: Range<usize>, message: String, help: Option<String>) {
        self.errors.push(CompileError { code, span, message, help });
    }

    fn refuse(&mut self, what: &str, span: Range<usize>, help: &str) {
        self.error("X005", span, format!("{what} is not available in expressions"), Some(help.to_owned()));
    }

    pub(super) fn term(&mut self, term: &Term<&'s str>, guarded: bool) {
        match term {
            Term::Id | Term::Num(_) | Term::Arr(None) => {}
            Term::Recurse => {
                let at = self.source.find("..").unwrap_or(0);
                self.refuse("`..`", at..at + 2, "name the path that you mean");
            }
            Term::Str(format, parts) => {
                if let Some(format) = format {
                    self.call(format, 0);
                }
                for part in parts {
                    if let StrPart::Term(term) = part {
                        self.term(term, guarded);
                    }
                }
            }
            Term::Arr(Some(term)) | Term::Neg(term) => self.term(term, guarded),
            Term::Obj(members) => {
                for (key, value) in members {
                    match (key, value) {
                        (Term::Var(name), None) => self.variable(name, &[], guarded, true),
                        _ => self.term(key, guarded),
                    }
                    if let Some(value) = value {
                        self.term(value, guarded);
                    }
                }
            }
            Term::BinOp(left, op, right) => match op {
                BinaryOp::Pipe(Some(pattern)) => {
                    self.term(left, guarded);
                    self.bound(pattern, guarded, |walk| walk.term(right, guarded));
                }
                BinaryOp::Alt => {
                    self.term(left, true);
                    self.term(right, guarded);
                }
                BinaryOp::Pipe(None)
                | BinaryOp::Comma
                | BinaryOp::Or
                | BinaryOp::And
                | BinaryOp::Math(_)
                | BinaryOp::Cmp(_)
                | BinaryOp::Assign
                | BinaryOp::Update
                | BinaryOp::UpdateMath(_)
                | BinaryOp::UpdateAlt => {
                    self.term(left, guarded);
                    self.term(right, guarded);
                }
            },
            Term::Label(name, _) | Term::Break(name) => {
                self.refuse("`label`", self.span(name), "use first(…) or limit(…; …)");
            }
            Term::Fold(name, source, pattern, args) => {
                self.term(source, guarded);
                let fits = if *name == "reduce" { args.len() == 2 } else { (2..=3).contains(&args.len()) };
                if !fits {
                    let help = "write reduce SOURCE as $x (INITIAL; UPDATE)".to_owned();
                    self.error("X001", self.span(name), format!("`{name}` has the wrong number of parts"), Some(help));
                }
                self.bound(pattern, guarded, |walk| args.iter().for_each(|arg| walk.term(arg, guarded)));
            }
            Term::TryCatch(body, handler) => {
                self.term(body, true);
                if let Some(handler) = handler {
                    self.term(handler, guarded);
                }
            }
            Term::IfThenElse(branches, otherwise) => {
                for (condition, then) in branches {
                    self.term(condition, true);
                    self.term(then, true);
                }
                if let Some(otherwise) = otherwise {
                    self.term(otherwise, true);
                }
            }
            Term::Def(defs, _) => {
                let span = defs.first().map_or(0..0, |def| self.span(def.name));
                self.refuse("`def`", span, "put a `set` step before this one to name an intermediate value");
            }
            Term::Call(name, args) => {
                self.call(name, args.len());
                args.iter().for_each(|arg| self.term(arg, guarded));
            }
            Term::Var(name) => self.variable(name, &[], guarded, false),
            Term::Path(head, path) => {
                let guarded =
                    guarded || path.0.iter().any(|(_, optional)| matches!(optional, jaq_core::path::Opt::Optional));
                match &**head {
                    Term::Var(name) => self.variable(name, &path.0, guarded, false),
                    head => self.term(head, guarded),
                }
                for (part, _) in &path.0 {
                    match part {
                        Part::Index(index) => self.term(index, guarded),
                        Part::Range(from, to) => {
                            from.iter().chain(to).for_each(|bound| self.term(bound, guarded));
                        }
                    }
                }
            }
        }
    }

    fn bound(&mut self, pattern: &Pattern<&'s str>, guarded: bool, body: impl FnOnce(&mut Self)) {
        let before = self.locals.len();
        self.pattern(pattern, guarded);
        body(self);
        self.locals.truncate(before);
    }

    fn pattern(&mut self, pattern: &Pattern<&'s str>, guarded: bool) {
        match pattern {
            Pattern::Var(name) => {
                let bound = self.allowed.locals.iter().any(|(local, _)| local == name);
                if bound || Root::ALL.iter().any(|root| root.name() == *name) || name.starts_with("$__") {
                    let help = Some("choose another name".to_owned());
                    self.error("X004", self.span(name), format!("`{name}` cannot be bound anew"), help);
                }
                self.locals.push(name);
            }
            Pattern::Arr(items) => items.iter().for_each(|item| self.pattern(item, guarded)),
            Pattern::Obj(members) => {
                for (key, item) in members {
                    self.term(key, guarded);
                    self.pattern(item, guarded);
                }
            }
        }
    }

    fn call(&mut self, name: &str, args: usize) {
        if FUNCTIONS.contains(&(name, args)) {
            return;
        }
        let span = self.span(name);
        let arities: Vec<String> =
            FUNCTIONS.iter().filter(|(known, _)| *known == name).map(|(_, args)| args.to_string()).collect();
        if !arities.is_empty() {
            let message = format!("`{name}` takes {} arguments here, not {args}", arities.join(" or "));
            return self.error(
                "X005",
                span,
                message,
                Some("arguments of jq functions are separated by `;`".to_owned()),
            );
        }
        let help = left_out(name)
            .map(str::to_owned)
            .or_else(|| {
                crate::expression::suggest(name, FUNCTIONS.iter().map(|(name, _)| *name))
                    .map(|near| format!("did you mean `{near}`?"))
            })
            .or_else(|| Some("docs/language.md lists the functions of expressions".to_owned()));
        self.error("X005", span, format!("there is no function `{name}` in expressions"), help);
    }

    fn variable(
        &mut self,
        name: &'s str,
        path: &[(Part<Term<&'s str>>, jaq_core::path::Opt)],
        guarded: bool,
        shorthand: bool,
    ) {
        if self.locals.contains(&name) {
            return;
        }
        let span = self.span(name);
        if let Some((_, resolved)) = self.allowed.locals.iter().rev().find(|(local, _)| local == name) {
            let resolved = resolved.clone();
            return self.read(resolved, span.clone(), guarded, shorthand);
        }
        let Some(root) = Root::ALL.iter().copied().find(|root| root.name() == name) else {
            let bound = self.allowed.locals.iter().map(|(local, _)| local.as_str());
            let known =
                self.allowed.roots.iter().map(|root| root.name()).chain(self.locals.iter().copied()).chain(bound);
            let help = crate::expression::suggest(name, known).map(|near| format!("did you mean `{near}`?"));
            let message = match name {
                "$item" | "$index" => format!("`{name}` belongs to the steps inside a `for`"),
                _ => format!("there is no variable `{name}`"),
            };
            return self.error("X003", span, message, help.or_else(|| Some(self.available())));
        };
        if !self.allowed.roots.contains(&root) {
            let message = format!("`{name}` cannot be read here");
            return self.error("X004", span, message, Some(self.available()));
        }
        let keys: Vec<(&'s str, Range<usize>)> = path
            .iter()
            .map_while(|(part, _)| literal_key(part))
            .map(|key| (key, self.span(key)))
            .take_while(|(_, key)| key.start > 0 && self.source.as_bytes()[key.start - 1] == b'.')
            .collect();
        let needed = match root {
            Root::Steps => 2,
            Root::Step | Root::Forward => 1,
            Root::Input | Root::Event | Root::Result | Root::Error | Root::Parked | Root::Saga => 0,
        };
        if keys.len() < needed {
            let shape = match root {
                Root::Steps => "$steps.ID.output, .status, .key or .error",
                Root::Step => "$step.key",
                _ => "$forward.input, .output, .status or .key",
            };
            return self.error(
                "X006",
                span,
                format!("`{name}` is not a value by itself"),
                Some(format!("write {shape}")),
            );
        }
        // The field is the last key that belongs to the variable; for `$error` and its like, if it is literal.
        let field = if needed > 0 { keys.get(needed - 1) } else { keys.first() };
        if let Some((field, at)) = field
            && !root.fields().is_empty()
            && !root.fields().contains(field)
        {
            let help = crate::expression::suggest(field, root.fields().iter().copied()).map_or_else(
                || format!("it has {}", root.fields().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            let owner = if root == Root::Steps { "a step" } else { name };
            return self.error("X006", at.clone(), format!("{owner} has no `{field}`"), Some(help));
        }
        let end = needed.checked_sub(1).map_or(span.end, |last| keys[last].1.end);
        let resolved = match root {
            Root::Input => Name::Input,
            Root::Event => Name::Event,
            Root::Result => Name::Result,
            Root::Step => Name::StepKey,
            Root::Error => Name::Error,
            Root::Parked => Name::Parked,
            Root::Saga => Name::Saga,
            Root::Forward => match keys[0].0 {
                "input" => Name::ForwardInput,
                "output" => Name::ForwardOutput,
                "status" => Name::ForwardStatus,
                _ => Name::ForwardKey,
            },
            Root::Steps => {
                let id = keys[0].0.into();
                match keys[1].0 {
                    "output" => Name::StepOutput(id),
                    "status" => Name::StepStatus(id),
                    "key" => Name::StepKeyOf(id),
                    _ => Name::StepError(id),
                }
            }
        };
        self.read(resolved, span.start..end, guarded, shorthand);
    }

    fn read(&mut self, resolved: Name, span: Range<usize>, guarded: bool, shorthand: bool) {
        let slot = self.names.iter().position(|known| *known == resolved).unwrap_or_else(|| {
            self.names.push(resolved.clone());
            self.names.len() - 1
        });
        self.reads.push(Read { name: resolved, span, guarded, slot, shorthand });
    }

    fn available(&self) -> String {
        if self.allowed.roots.is_empty() && self.allowed.locals.is_empty() {
            return "no variable can be read here".to_owned();
        }
        let bound = self.allowed.locals.iter().map(|(local, _)| local.as_str());
        let names: Vec<_> = self.allowed.roots.iter().map(|root| root.name()).chain(bound).collect();
        format!("available here: {}", names.join(", "))
    }
}
