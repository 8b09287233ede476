//! The normal form of a saga file: two spaces for each level, one space inside braces, no white space at the
//! ends of lines, at most one empty line. Order, quotes, comments and their columns stay the author's. The text is
//! read again afterwards: a form that meant anything else is not given out.

mod tree;
mod write;

use super::diagnostic::{self, Diagnostic, Finding};
use super::yaml::{self, Node, Yaml};

/// Why a file has no normal form.
#[derive(Debug, thiserror::Error)]
pub enum Unformatted {
    /// It is no YAML as saga files use it.
    #[error("the file cannot be read")]
    Mistakes(Vec<Diagnostic>),
    /// What would have been written reads differently; nothing is lost, but somebody should see this file.
    #[error("the formatted text would not mean the same; the file stays as it is")]
    Differs,
}

/// Returns the normal form of a file's text.
///
/// # Errors
/// [`Unformatted`]: the text stays as it is then.
pub fn format(file: &str, text: &str) -> Result<String, Unformatted> {
    let (before, findings) = yaml::parse(text);
    if before.is_none() && findings.is_empty() {
        return Ok(only_comments(text));
    }
    let (Some(before), true) = (before, findings.is_empty()) else {
        return Err(Unformatted::Mistakes(diagnostic::placed(file, text, findings)));
    };
    let refused = |at: std::ops::Range<usize>, message: &str| {
        let finding = Finding::new("S001", at, message.to_owned());
        Unformatted::Mistakes(diagnostic::placed(file, text, vec![finding]))
    };
    let tree = tree::read(text).map_err(|(at, message)| refused(at, &message))?;
    let written = write::write(text, &tree);
    let (after, findings) = yaml::parse(&written);
    let same = findings.is_empty() && after.is_some_and(|after| equal(&before, &after));
    let comments = |text: &str| {
        tree::read(text).map(|tree| tree.comments.into_iter().map(|comment| comment.text).collect::<Vec<_>>())
    };
    if same && comments(text).ok() == comments(&written).ok() { Ok(written) } else { Err(Unformatted::Differs) }
}

/// A file without a value.
fn only_comments(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let text = lines.join("\n");
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}

/// True if two trees mean the same, key by key in the same order.
fn equal(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Yaml::Scalar(a), Yaml::Scalar(b)) => a.meaning() == b.meaning(),
        (Yaml::Sequence(a), Yaml::Sequence(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Yaml::Mapping(a), Yaml::Mapping(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.key == b.key && equal(&a.value, &b.value))
        }
        (Yaml::Scalar(_) | Yaml::Sequence(_) | Yaml::Mapping(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::tests::ORDER;

    #[track_caller]
    fn check(why: &str, text: &str, expected: &str) {
        let formatted = format("test.yaml", text).unwrap_or_else(|error| panic!("{why}: {error}\n{text}"));
        assert_eq!(formatted, expected, "{why}");
        assert_eq!(format("test.yaml", &formatted).unwrap(), formatted, "{why}: not the same the second time");
    }

    #[test]
    fn forms() {
        let rows: &[(&str, &str, &str)] = &[
            ("nothing", "", ""),
            ("only a comment", "\n# a  \n\n", "# a\n"),
            ("white space", "saga:   a  \nversion:  2\n\n\n\nsteps: []", "saga: a\nversion: 2\n\nsteps: []\n"),
            ("deep indentation", "steps:\n      - id: a\n        wait:   1s\n", "steps:\n  - id: a\n    wait: 1s\n"),
            ("lists under keys", "steps:\n- id: a\n- id: b\n", "steps:\n  - id: a\n  - id: b\n"),
            ("braces", "a: {b: 1,c: [1,2 ,3], d: {}}\n", "a: { b: 1, c: [1, 2, 3], d: {} }\n"),
            ("braces over lines", "a: {\n  b: 1,\n  c: 2 }\n", "a: { b: 1, c: 2 }\n"),
            ("braces with a comment inside", "a: {\n  b: 1, # one\n  c: 2 }\n", "a:\n  b: 1  # one\n  c: 2\n"),
            (
                "comments",
                "# head\nsaga: a # name\nsteps: # list\n  # first\n  - id: a   # id\n    # kind\n    wait: 1s\n  # end of the list\n# end\n",
                "# head\nsaga: a # name\nsteps: # list\n  # first\n  - id: a   # id\n    # kind\n    wait: 1s\n  # end of the list\n# end\n",
            ),
            (
                "aligned comments stay",
                "saga: abc     # one\nversion: 2    # two\n",
                "saga: abc     # one\nversion: 2    # two\n",
            ),
            (
                "quotes stay",
                "a: \"x\\ty\"\nb: 'it''s'\nc: \"${ $input.x }\"\n",
                "a: \"x\\ty\"\nb: 'it''s'\nc: \"${ $input.x }\"\n",
            ),
            (
                "a block of text",
                "a:\n    b: |\n          one\n            two\n\n          three\n    c: 1\n",
                "a:\n  b: |\n    one\n      two\n\n    three\n  c: 1\n",
            ),
            (
                "a folded block that keeps its end",
                "a: >-\n   one\n   two\nb: |+\n  x\n\nc: 1\n",
                "a: >-\n  one\n  two\nb: |+\n  x\n\nc: 1\n",
            ),
            (
                "text over lines",
                "a: one\n     two\nb: \"three\n\n   four\"\n",
                "a: one\n  two\nb: \"three\n\n  four\"\n",
            ),
            (
                "an anchor",
                "a: &x { b: 1 }\nc: *x\nd: &y\n    - 1\ne: [*y, *x]\n",
                "a: &x { b: 1 }\nc: *x\nd: &y\n  - 1\ne: [*y, *x]\n",
            ),
            ("lists in lists", "a:\n- - 1\n  - 2\n-\n  - 3\n", "a:\n  - - 1\n    - 2\n  - - 3\n"),
            ("nothing as a value", "a:\nb: ~\nc: null\nd: {e: , f: 1}\n", "a:\nb: ~\nc: null\nd: { e:, f: 1 }\n"),
            ("a mark at the beginning", "---\nsaga: a\n", "saga: a\n"),
            ("line ends of Windows", "saga: a\r\nsteps:\r\n- id: b\r\n", "saga: a\nsteps:\n  - id: b\n"),
            ("keys in quotes", "\"a b\":   1\n? c\n: 2\n", "\"a b\": 1\nc: 2\n"),
        ];
        for (why, text, expected) in rows {
            check(why, text, expected);
        }
    }

    #[test]
    fn long_braces_become_lines() {
        let text =
            format!("a: {{ {} }}\n", (0..20).map(|n| format!("key{n}: value{n}")).collect::<Vec<_>>().join(", "));
        let lines: String = (0..20).map(|n| format!("  key{n}: value{n}\n")).collect();
        check("a long mapping", &text, &format!("a:\n{lines}"));
    }

    #[test]
    fn the_example_is_in_normal_form() {
        check("the example", ORDER, ORDER);
    }

    /// Every file of the corpus that is YAML at all keeps its meaning and its comments.
    #[test]
    fn the_corpus_keeps_its_meaning() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            match format("x.yaml", &text) {
                Ok(formatted) => {
                    assert_eq!(format("x.yaml", &formatted).unwrap(), formatted, "{}: not stable", path.display());
                    count += 1;
                }
                Err(Unformatted::Mistakes(found)) => assert!(!found.is_empty()),
                Err(Unformatted::Differs) => panic!("{} would not mean the same", path.display()),
            }
        }
        assert!(count >= 50, "only {count} files were formatted");
    }
}
