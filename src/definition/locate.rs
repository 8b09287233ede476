//! From a place in a scalar's decoded text back to the place in the file.

use std::ops::Range;

/// Returns the nearest character boundary at or before `at`.
pub(super) fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Returns where in the file a byte of a scalar's decoded text stands, as nearly as quotes, escapes
/// and folding allow.
pub(super) fn locate(file: &str, span: &Range<usize>, text: &str, offset: usize) -> usize {
    let raw = &file[span.clone()];
    let quote = raw.chars().next().filter(|c| matches!(c, '"' | '\''));
    let mut at = match raw.as_bytes().first() {
        Some(b'"' | b'\'') => 1,
        Some(b'|' | b'>') => raw.find('\n').unwrap_or(0),
        _ => 0,
    };
    for (index, wanted) in text.char_indices() {
        loop {
            let Some(found) = raw[at..].chars().next() else { return span.end };
            let escape = quote == Some('"') && found == '\\';
            if !escape && found != wanted {
                if found.is_whitespace() || (quote == Some('\'') && found == '\'') {
                    at += found.len_utf8();
                    continue;
                }
                return span.start; // not aligned: the scalar as a whole
            }
            if index >= offset {
                return span.start + at;
            }
            if !escape {
                at += found.len_utf8();
                break;
            }
            let letter = raw[at + 1..].chars().next().unwrap_or(' ');
            let digits = match letter {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            at = floor(raw, at + 1 + letter.len_utf8() + digits);
            if letter != '\n' {
                break; // an escaped line break is nothing in the text
            }
        }
    }
    span.start + at
}

#[cfg(test)]
mod tests {
    use super::super::yaml::{Node, Yaml, parse};
    use super::*;

    #[test]
    fn places_inside_scalars() {
        for file in [
            "k: abc${ x }",
            "k: \"a\\\"\\u0062c${ x }\"",
            "k: 'it''s ${ x }'",
            "k: |\n  one\n  two ${ x }\n",
            "k: >\n  one\n  two ${ x }\n",
        ] {
            let Some(Node { value: Yaml::Mapping(entries), .. }) = parse(file).0 else { panic!("{file}") };
            let Yaml::Scalar(scalar) = &entries[0].value.value else { panic!("{file}") };
            let at = locate(file, &entries[0].value.span, &scalar.text, scalar.text.find("x }").unwrap());
            assert_eq!(&file[at..at + 3], "x }", "{file:?} in {:?}", scalar.text);
        }
    }
}
