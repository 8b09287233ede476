//! Where expressions begin and end in a text, and the limits that hold before any parser sees them:
//! jq's own lexer and parser recurse, so depth is bounded first.

/// Longer than any expression that a person can review; jq's lexer takes it in microseconds.
pub const SOURCE_BYTES_MAX: usize = 4 * 1024;
/// Brackets inside each other; the parser takes a few stack frames for each.
pub const BRACKETS_MAX: usize = 64;
/// A text with more expressions than this is a program, not a template.
pub const PARTS_MAX: usize = 256;

/// A text with expressions in it; longer ones belong into a file of the service that they are for.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A piece of a template text, with its bytes' place in that text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Literal text, `$${` already turned into `${`.
    Literal(String),
    /// An expression's source, without `${` and `}`.
    Expression { start: usize, end: usize },
}

/// What is wrong with a text before it is parsed, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScanError {
    /// `X001` for syntax, `X002` for a limit.
    pub code: &'static str,
    pub start: usize,
    pub end: usize,
    pub message: String,
}

/// Splits a text into literal pieces and expressions.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, ScanError> {
    if text.len() > TEXT_BYTES_MAX && text.contains("${") {
        let message = format!("a text with expressions has at most {TEXT_BYTES_MAX} bytes");
        return Err(ScanError { code: "X002", start: 0, end: 1, message });
    }
    let mut out = Vec::new();
    let (mut literal, mut rest) = (String::new(), 0);
    while let Some(found) = text[rest..].find("${") {
        let at = rest + found;
        if at > rest && text.as_bytes()[at - 1] == b'$' {
            literal.push_str(&text[rest..at - 1]);
            literal.push_str("${");
            rest = at + 2;
            continue;
        }
        literal.push_str(&text[rest..at]);
        if !literal.is_empty() {
            out.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        let start = at + 2;
        let end = expression_end(text, start)?;
        out.push(Piece::Expression { start, end });
        if out.len() > PARTS_MAX {
            return Err(ScanError {
                code: "X002",
                start: at,
                end: start,
                message: format!("more than {PARTS_MAX} parts in one text"),
            });
        }
        rest = end + 1;
    }
    literal.push_str(&text[rest..]);
    if !literal.is_empty() || out.is_empty() {
        out.push(Piece::Literal(literal));
    }
    Ok(out)
}

/// Finds the `}` that closes the expression whose source starts at `start`.
fn expression_end(text: &str, start: usize) -> Result<usize, ScanError> {
    match scan(&text[start..]) {
        Ok(Some(len)) => Ok(start + len),
        Ok(None) => Err(ScanError {
            code: "X001",
            start: start - 2,
            end: start,
            message: "`${` is never closed; add `}`, or write `$${` for a literal `${`".to_owned(),
        }),
        Err(error) => Err(ScanError { start: start + error.start, end: start + error.end, ..error }),
    }
}

/// Checks the length and depth of a whole expression's source.
pub(super) fn check(source: &str) -> Result<(), ScanError> {
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!("an expression has at most {SOURCE_BYTES_MAX} bytes; this one has {}", source.len());
        return Err(ScanError { code: "X002", start: 0, end: source.len(), message });
    }
    match scan(source)? {
        None => Ok(()),
        Some(at) => Err(ScanError {
            code: "X001",
            start: at,
            end: at + 1,
            message: "`}` closes nothing in the expression".to_owned(),
        }),
    }
}

/// Walks over jq source; returns where an unmatched `}` stands, if one does.
fn scan(source: &str) -> Result<Option<usize>, ScanError> {
    #[derive(PartialEq)]
    enum Open {
        Bracket(u8),
        Interpolation,
        Text,
    }
    let mut open: Vec<Open> = Vec::new();
    let bytes = source.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let in_text = open.last() == Some(&Open::Text);
        match byte {
            b'"' if in_text => {
                open.pop();
            }
            b'\\' if in_text => {
                if bytes.get(at + 1) == Some(&b'(') {
                    open.push(Open::Interpolation);
                }
                at += 1;
            }
            _ if in_text => {}
            b'"' => open.push(Open::Text),
            b'(' | b'[' | b'{' => open.push(Open::Bracket(byte)),
            b'#' => {
                let message = "a comment is not allowed inside an expression; use a YAML comment".to_owned();
                return Err(ScanError { code: "X001", start: at, end: at + 1, message });
            }
            b')' | b']' | b'}' => {
                let wanted = match byte {
                    b')' => b'(',
                    b']' => b'[',
                    _ => b'{',
                };
                match open.last() {
                    Some(Open::Bracket(bracket)) if *bracket == wanted => {
                        open.pop();
                    }
                    Some(Open::Interpolation) if byte == b')' => {
                        open.pop();
                    }
                    None if byte == b'}' => return Ok(Some(at)),
                    _ => {
                        let message = format!("`{}` closes nothing in the expression", char::from(byte));
                        return Err(ScanError { code: "X001", start: at, end: at + 1, message });
                    }
                }
            }
            _ => {}
        }
        if open.len() > BRACKETS_MAX {
            let message = format!("an expression nests at most {BRACKETS_MAX} brackets");
            return Err(ScanError { code: "X002", start: at, end: at + 1, message });
        }
        at += 1;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        let show = |piece: Piece| match piece {
            Piece::Literal(text) => format!("'{text}'"),
            Piece::Expression { start, end } => format!("<{}>", &text[start..end]),
        };
        pieces(text).map(|pieces| pieces.into_iter().map(show).collect()).map_err(|error| error.message)
    }

    #[test]
    fn texts_are_split() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("plain", "abc", &["'abc'"]),
            ("empty", "", &["''"]),
            ("one expression", "${ .a }", &["< .a >"]),
            ("around", "a/${x}/b", &["'a/'", "<x>", "'/b'"]),
            ("object", "${ {a: {b: 1}} }", &["< {a: {b: 1}} >"]),
            ("brace in a string", r#"${ "}" }x"#, &[r#"< "}" >"#, "'x'"]),
            ("interpolation", r#"${ "a\("}" + "b")c" }"#, &[r#"< "a\("}" + "b")c" >"#]),
            ("escaped quote", r#"${ "\"}" }"#, &[r#"< "\"}" >"#]),
            ("escaped opening", "$${ not }", &["'${ not }'"]),
            ("dollars", "$5 and $", &["'$5 and $'"]),
            ("two", "${a}${b}", &["<a>", "<b>"]),
        ];
        for (why, text, expected) in rows {
            assert_eq!(shown(text).unwrap(), *expected, "{why}");
        }
    }

    #[test]
    fn hostile_texts_are_refused() {
        let deep = format!("${{ {}1{} }}", "[".repeat(65), "]".repeat(65));
        let in_text = format!("${{ {}1{} }}", "\"\\(".repeat(40), ")\"".repeat(40));
        let rows: &[(&str, &str, &str)] = &[
            ("never closed", "a ${ .b", "never closed"),
            ("string never closed", "${ \"a }", "never closed"),
            ("wrong bracket", "${ (] }", "closes nothing"),
            ("comment", "${ 1 # } }", "comment"),
            ("depth", &deep, "nests at most"),
            ("depth by interpolation", &in_text, "nests at most"),
        ];
        for (why, text, expected) in rows {
            let message = shown(text).expect_err(why);
            assert!(message.contains(expected), "{why}: {message}");
        }
        assert!(check(&" ".repeat(SOURCE_BYTES_MAX + 1)).is_err());
        assert!(check("}").is_err());
    }
}
