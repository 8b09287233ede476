//! The fence around jq: what an author may write. The source is parsed with jaq's parser, then the whole
//! tree is walked: every call must be on the list, every variable must be known and allowed at its
//! place. Nothing that can recurse, loop without end, look outside or stop the process is on the list.

use std::ops::Range;

use jaq_core::load::lex::{Lexer, StrPart, Tok, Token};
use jaq_core::load::parse::{BinaryOp, Parser, Pattern, Term};
use jaq_core::path::Part;

use super::Variable;
use super::scan;

/// Tokens of one expression, brackets and parts of strings included. 512 keep jaq's parser, which
/// recurses over chains of prefix operators, far from the end of a 2 MiB stack.
pub const TOKENS_MAX: usize = 512;

/// Terms inside each other, chains of operators counted as such: `a + b + c` is three deep. Walking,
/// compiling and running recurse, on a stack of 2 MiB that is not theirs alone.
pub const TERM_DEPTH_MAX: usize = 100;

/// Functions by name and number of arguments. Left out on purpose: definitions, everything that
/// recurses or generates without a bound, the clock, the environment, input, output and `halt`, and
/// regular expressions, whose cost no budget here can count.
pub(super) const FUNCTIONS: &[(&str, usize)] = &[
    ("@base64", 0),
    ("@base64d", 0),
    ("@json", 0),
    ("@text", 0),
    ("@uri", 0),
    ("abs", 0),
    ("add", 0),
    ("add", 1),
    ("all", 0),
    ("all", 1),
    ("all", 2),
    ("any", 0),
    ("any", 1),
    ("any", 2),
    ("arrays", 0),
    ("ascii_downcase", 0),
    ("ascii_upcase", 0),
    ("booleans", 0),
    ("ceil", 0),
    ("contains", 1),
    ("del", 1),
    ("empty", 0),
    ("endswith", 1),
    ("error", 0),
    ("error", 1),
    ("explode", 0),
    ("false", 0),
    ("first", 0),
    ("first", 1),
    ("flatten", 0),
    ("flatten", 1),
    ("floor", 0),
    ("from_entries", 0),
    ("fromdate", 0),
    ("fromjson", 0),
    ("getpath", 1),
    ("group_by", 1),
    ("has", 1),
    ("implode", 0),
    ("in", 1),
    ("index", 1),
    ("indices", 1),
    ("inside", 1),
    ("isempty", 1),
    ("iterables", 0),
    ("join", 1),
    ("keys", 0),
    ("keys_unsorted", 0),
    ("last", 0),
    ("last", 1),
    ("length", 0),
    ("limit", 2),
    ("ltrim", 0),
    ("ltrimstr", 1),
    ("map", 1),
    ("map_values", 1),
    ("max", 0),
    ("max_by", 1),
    ("min", 0),
    ("min_by", 1),
    ("not", 0),
    ("nth", 1),
    ("null", 0),
    ("nulls", 0),
    ("numbers", 0),
    ("objects", 0),
    ("reverse", 0),
    ("rindex", 1),
    ("round", 0),
    ("rtrim", 0),
    ("rtrimstr", 1),
    ("scalars", 0),
    ("select", 1),
    ("setpath", 2),
    ("sort", 0),
    ("sort_by", 1),
    ("split", 1),
    ("sqrt", 0),
    ("startswith", 1),
    ("strings", 0),
    ("to_entries", 0),
    ("toboolean", 0),
    ("todate", 0),
    ("tojson", 0),
    ("tonumber", 0),
    ("tostring", 0),
    ("transpose", 0),
    ("trim", 0),
    ("true", 0),
    ("type", 0),
    ("unique", 0),
    ("unique_by", 1),
    ("utf8bytelength", 0),
    ("values", 0),
    ("with_entries", 1),
];

/// A variable that an author can write, without what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    Input,
    Event,
    Result,
    /// `$step.key`
    Step,
    /// `$steps.ID.…`
    Steps,
    Forward,
    Error,
    Parked,
    Saga,
}

impl Root {
    /// Every variable, for tests.
    pub const ALL: &'static [Self] = &[
        Self::Input,
        Self::Event,
        Self::Result,
        Self::Step,
        Self::Steps,
        Self::Forward,
        Self::Error,
        Self::Parked,
        Self::Saga,
    ];

    /// Returns the variable as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "$input",
            Self::Event => "$event",
            Self::Result => "$result",
            Self::Step => "$step",
            Self::Steps => "$steps",
            Self::Forward => "$forward",
            Self::Error => "$error",
            Self::Parked => "$parked",
            Self::Saga => "$saga",
        }
    }

    /// Fields that follow the variable; empty where any do.
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Input | Self::Event | Self::Result => &[],
            Self::Step => &["key"],
            Self::Steps => &["output", "status", "key", "error"],
            Self::Forward => &["input", "output", "status", "key"],
            Self::Error => &["type", "title", "detail", "step", "status", "result", "others"],
            Self::Parked => &["step", "direction", "reason"],
            Self::Saga => &["id", "name", "version", "correlation_id", "started_at"],
        }
    }
}

/// A variable that an expression names, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    Input,
    Event,
    Result,
    StepKey,
    StepOutput(Box<str>),
    StepStatus(Box<str>),
    StepKeyOf(Box<str>),
    StepError(Box<str>),
    ForwardInput,
    ForwardOutput,
    ForwardStatus,
    ForwardKey,
    Error,
    Parked,
    Saga,
}

impl Name {
    /// Returns what the scope is asked for.
    #[must_use]
    pub fn variable(&self) -> Variable<'_> {
        match self {
            Self::Input => Variable::Input,
            Self::Event => Variable::Event,
            Self::Result => Variable::Result,
            Self::StepKey => Variable::StepKey,
            Self::StepOutput(id) => Variable::StepOutput(id),
            Self::StepStatus(id) => Variable::StepStatus(id),
            Self::StepKeyOf(id) => Variable::StepKeyOf(id),
            Self::StepError(id) => Variable::StepError(id),
            Self::ForwardInput => Variable::ForwardInput,
            Self::ForwardOutput => Variable::ForwardOutput,
            Self::ForwardStatus => Variable::ForwardStatus,
            Self::ForwardKey => Variable::ForwardKey,
            Self::Error => Variable::Error,
            Self::Parked => Variable::Parked,
            Self::Saga => Variable::Saga,
        }
    }

    /// Returns the step whose result is read.
    #[must_use]
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::StepOutput(id) | Self::StepStatus(id) | Self::StepKeyOf(id) | Self::StepError(id) => Some(id),
            Self::Input
            | Self::Event
            | Self::Result
            | Self::StepKey
            | Self::ForwardInput
            | Self::ForwardOutput
            | Self::ForwardStatus
            | Self::ForwardKey
            | Self::Error
            | Self::Parked
            | Self::Saga => None,
        }
    }
}

/// One place where an expression reads a variable.
#[derive(Debug, Clone)]
pub struct Read {
    pub name: Name,
    /// Bytes of the expression's source, the variable with the keys that belong to it.
    pub span: Range<usize>,
    /// Stands left of `//`, under `?` or `try`, or inside an `if`: null is provided for.
    pub guarded: bool,
    /// Index into [`Fenced::names`].
    pub(super) slot: usize,
    /// `{$input}`: the variable is its member's key as well.
    pub(super) shorthand: bool,
}

/// Why an expression does not compile, and where in its source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CompileError {
    /// `X001` …: see `docs/diagnostics.md`.
    pub code: &'static str,
    /// Bytes of the source.
    pub span: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

/// An expression that passed.
#[derive(Debug)]
pub(super) struct Fenced<'s> {
    pub term: Term<&'s str>,
    pub reads: Vec<Read>,
    /// The variables read, each once.
    pub names: Vec<Name>,
}

/// Parses and checks an expression's source.
pub(super) fn fence<'s>(source: &'s str, allowed: &[Root]) -> Result<Fenced<'s>, Vec<CompileError>> {
    scan::check(source).map_err(|error| {
        vec![CompileError { code: error.code, span: error.start..error.end, message: error.message, help: None }]
    })?;
    let tokens = Lexer::new(source).lex().map_err(|errors| {
        let one = |(expected, found): (jaq_core::load::lex::Expect<&'s str>, &'s str)| {
            let start = offset(source, found);
            let width = found.chars().next().map_or(0, char::len_utf8);
            syntax(start..start + width, format!("expected {} here", expected.as_str()))
        };
        errors.into_iter().map(one).collect::<Vec<_>>()
    })?;
    let count = tokens.iter().map(token_count).sum::<usize>();
    if count > TOKENS_MAX {
        let message = format!("an expression has at most {TOKENS_MAX} tokens; this one has {count}");
        return Err(vec![CompileError { code: "X002", span: 0..source.len(), message, help: None }]);
    }
    if tokens.is_empty() {
        let help = Some("write a path such as $input.orderId".to_owned());
        return Err(vec![CompileError {
            code: "X001",
            span: 0..source.len(),
            message: "the expression is empty".to_owned(),
            help,
        }]);
    }
    let term = Parser::new(&tokens).parse(|parser| parser.term()).map_err(|errors| {
        let one = |(expected, found): (jaq_core::load::parse::Expect<&'s str>, Option<&Token<&'s str>>)| {
            let span = found.map_or(source.len()..source.len(), |token| {
                let start = offset(source, token.as_str());
                start..start + token.as_str().len()
            });
            let shown = found.map_or("the end".to_owned(), |token| format!("`{}`", token.as_str()));
            syntax(span, format!("expected {}, found {shown}", expected.as_str()))
        };
        errors.into_iter().map(one).collect::<Vec<_>>()
    })?;
    if depth(&term) > TERM_DEPTH_MAX {
        let message = format!("an expression is at most {TERM_DEPTH_MAX} terms deep");
        let help = Some("put a `set` step before this one to name an intermediate value".to_owned());
        return Err(vec![CompileError { code: "X002", span: 0..source.len(), message, help }]);
    }
    let mut walk =
        Walk { source, allowed, locals: Vec::new(), reads: Vec::new(), names: Vec::new(), errors: Vec::new() };
    walk.term(&term, false);
    if walk.errors.is_empty() { Ok(Fenced { term, reads: walk.reads, names: walk.names }) } else { Err(walk.errors) }
}

/// Says why a well-known function of jq is left out.
fn left_out(name: &str) -> Option<&'static str> {
    Some(match name {
        "now" | "localtime" | "gmtime" | "mktime" | "strftime" | "strflocaltime" | "strptime" => {
            "expressions see no clock: a retry and an undo have to find what the first attempt found"
        }
        "env" | "input" | "inputs" | "input_filename" | "get_search_list" => {
            "expressions see nothing but their variables; what differs between environments is configuration"
        }
        "halt" | "halt_error" | "debug" | "stderr" => "an expression only yields a value; error(…) stops it",
        "range" | "repeat" | "while" | "until" | "recurse" | "walk" | "paths" | "combinations" => {
            "expressions have no loop that could be without end; use map(…), reduce or [.[] | …]"
        }
        "test" | "match" | "capture" | "scan" | "sub" | "gsub" | "splits" => {
            "there are no regular expressions; use startswith, endswith, contains, split or ltrimstr"
        }
        _ => return None,
    })
}

fn syntax(span: Range<usize>, message: String) -> CompileError {
    CompileError { code: "X001", span, message, help: None }
}

/// Returns where a slice of the source begins.
pub(super) fn offset(source: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(source.as_ptr() as usize).min(source.len())
}

fn token_count(token: &Token<&str>) -> usize {
    match &token.1 {
        Tok::Block(tokens) => 1 + tokens.iter().map(token_count).sum::<usize>(),
        Tok::Str(parts) => {
            1 + parts
                .iter()
                .map(|part| if let StrPart::Term(token) = part { token_count(token) } else { 1 })
                .sum::<usize>()
        }
        Tok::Word | Tok::Var | Tok::Fmt | Tok::Num | Tok::Sym => 1,
    }
}

/// Returns how deep a term is. Has small frames, as it comes before the limit.
fn depth(term: &Term<&str>) -> usize {
    fn deepest<'t, 's: 't>(terms: impl Iterator<Item = &'t Term<&'s str>>) -> usize {
        terms.map(depth).max().unwrap_or(0)
    }
    fn of_pattern(pattern: &Pattern<&str>) -> usize {
        match pattern {
            Pattern::Var(_) => 0,
            Pattern::Arr(items) => 1 + items.iter().map(of_pattern).max().unwrap_or(0),
            Pattern::Obj(members) => {
                1 + members.iter().map(|(key, item)| depth(key).max(of_pattern(item))).max().unwrap_or(0)
            }
        }
    }
    1 + match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) | Term::Arr(None) => 0,
        Term::Str(_, parts) => deepest(parts.iter().filter_map(|part| match part {
            StrPart::Term(term) => Some(term),
            StrPart::Str(_) | StrPart::Char(_) => None,
        })),
        Term::Arr(Some(term)) | Term::Neg(term) | Term::Label(_, term) | Term::Def(_, term) => depth(term),
        Term::Obj(members) => deepest(members.iter().flat_map(|(key, value)| std::iter::once(key).chain(value))),
        Term::BinOp(left, BinaryOp::Pipe(Some(pattern)), right) => {
            depth(left).max(depth(right)).max(of_pattern(pattern))
        }
        Term::BinOp(left, _, right) => depth(left).max(depth(right)),
        Term::Fold(_, source, pattern, args) => depth(source).max(deepest(args.iter())).max(of_pattern(pattern)),
        Term::TryCatch(body, handler) => depth(body).max(handler.as_ref().map_or(0, |handler| depth(handler))),
        Term::IfThenElse(branches, otherwise) => {
            let branches = branches.iter().flat_map(|(condition, then)| [condition, then]);
            deepest(branches.chain(otherwise.as_deref()))
        }
        Term::Call(_, args) => deepest(args.iter()),
        Term::Path(head, path) => {
            let indexes = path.0.iter().flat_map(|(part, _)| match part {
                Part::Index(index) => [Some(index), None],
                Part::Range(from, to) => [from.as_ref(), to.as_ref()],
            });
            depth(head).max(deepest(indexes.flatten()))
        }
    }
}

/// Returns the key of a path part that is a plain literal, `.key` or `["key"]`.
pub(super) fn literal_key<'s>(part: &Part<Term<&'s str>>) -> Option<&'s str> {
    match part {
        Part::Index(Term::Str(None, parts)) => match parts.as_slice() {
            [StrPart::Str(key)] => Some(key),
            _ => None,
        },
        Part::Index(_) | Part::Range(..) => None,
    }
}

struct Walk<'s, 'a> {
    source: &'s str,
    allowed: &'a [Root],
    locals: Vec<&'s str>,
    reads: Vec<Read>,
    names: Vec<Name>,
    errors: Vec<CompileError>,
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

    fn term(&mut self, term: &Term<&'s str>, guarded: bool) {
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
                if Root::ALL.iter().any(|root| root.name() == *name) || name.starts_with("$__") {
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
        let Some(root) = Root::ALL.iter().copied().find(|root| root.name() == name) else {
            let known = self.allowed.iter().map(|root| root.name()).chain(self.locals.iter().copied());
            let help = crate::expression::suggest(name, known).map(|near| format!("did you mean `{near}`?"));
            let message = match name {
                "$item" | "$index" => format!("`{name}` belongs to `for`, which is not available in this version"),
                _ => format!("there is no variable `{name}`"),
            };
            return self.error("X003", span, message, help.or_else(|| Some(self.available())));
        };
        if !self.allowed.contains(&root) {
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
        let slot = self.names.iter().position(|known| *known == resolved).unwrap_or_else(|| {
            self.names.push(resolved.clone());
            self.names.len() - 1
        });
        self.reads.push(Read { name: resolved, span: span.start..end, guarded, slot, shorthand });
    }

    fn available(&self) -> String {
        if self.allowed.is_empty() {
            return "no variable can be read here".to_owned();
        }
        let names: Vec<_> = self.allowed.iter().map(|root| root.name()).collect();
        format!("available here: {}", names.join(", "))
    }
}
