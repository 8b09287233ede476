//! The fence around jq: what an author may write. The source is parsed with jaq's parser, then the whole
//! tree is walked: every call must be on the list, every variable must be known and allowed at its
//! place. Nothing that can recurse, loop without end, look outside or stop the process is on the list.

use std::ops::Range;

use jaq_core::load::lex::{Lexer, StrPart, Tok, Token};
use jaq_core::load::parse::{BinaryOp, Parser, Pattern, Term};
use jaq_core::path::Part;

use super::names::{Allowed, CompileError, Name, Read};
use super::scan;
use super::walk::Walk;

/// Tokens of one expression, brackets and parts of strings included. 512 keep jaq's parser, which
/// recurses over chains of prefix operators, far from the end of a 2 MiB stack.
pub const TOKENS_MAX: usize = 512;

/// Terms inside each other, chains of operators counted as such: `a + b + c` is three deep. Walking,
/// compiling and running recurse, on a stack of 2 MiB that is not theirs alone.
pub const TERM_DEPTH_MAX: usize = 100;

/// An expression that passed.
#[derive(Debug)]
pub(super) struct Fenced<'s> {
    pub term: Term<&'s str>,
    pub reads: Vec<Read>,
    /// The variables read, each once.
    pub names: Vec<Name>,
}

/// Parses and checks an expression's source.
pub(super) fn fence<'s>(source: &'s str, allowed: Allowed<'_>) -> Result<Fenced<'s>, Vec<CompileError>> {
    scan::check(source).map_err(|error| {
        vec![CompileError { code: error.code, span: error.start..error.end, message: error.message, help: None }]
    })?;
    if source.trim_start().starts_with("env:") || source.trim_start().starts_with("secret:") {
        let help = Some("name a service, and put what differs between environments there".to_owned());
        let message = "`${env:…}` and `${secret:…}` work in the configuration only".to_owned();
        return Err(vec![CompileError { code: "X005", span: 0..source.len(), message, help }]);
    }
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
