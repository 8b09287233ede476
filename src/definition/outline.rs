//! What a file says of pivots, before it is loaded: whether it has one, and which sagas it runs. A step that runs a
//! saga with a pivot is a pivot itself; what was found out of other files is written behind the file's text, so
//! that a stored definition means the same whatever those say by then.

use std::collections::BTreeSet;

use super::yaml::{self, Node, Yaml};

/// Begins the line that is written behind a file's text.
const RESOLVED: &str = "# resolved from the sagas that it runs: pivot ";

/// Keys behind which no step stands, whatever the value looks like.
const VALUES: [&str; 9] = ["with", "data", "input", "set", "output", "form", "schema", "show", "value"];

/// What a file says of pivots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    pub saga: String,
    pub version: u32,
    pub has_pivot: bool,
    pub runs: Vec<Run>,
}

/// A step that runs another saga and does not say whether it is a pivot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub step: String,
    pub saga: String,
    pub version: Option<u32>,
}

/// Looks through a file; none where it cannot be read at all.
#[must_use]
pub fn outline(text: &str) -> Option<Outline> {
    let tree = yaml::parse(text).0?;
    let mut found = Outline { version: 1, ..Outline::default() };
    found.saga = scalar(&tree, "saga")?.to_owned();
    if let Some(version) = scalar(&tree, "version") {
        found.version = version.parse().ok()?;
    }
    walk(&tree, &mut found);
    Some(found)
}

fn walk(node: &Node, found: &mut Outline) {
    match &node.value {
        Yaml::Scalar(_) => {}
        Yaml::Sequence(items) => items.iter().for_each(|item| walk(item, found)),
        Yaml::Mapping(entries) => {
            if let Some(step) = scalar(node, "id") {
                let pivot = scalar(node, "pivot");
                found.has_pivot |= pivot.is_some_and(|text| text.eq_ignore_ascii_case("true"));
                if let (Some(saga), None) = (scalar(node, "run"), pivot) {
                    let version = scalar(node, "version").and_then(|text| text.parse().ok());
                    found.runs.push(Run { step: step.to_owned(), saga: saga.to_owned(), version });
                }
            }
            let inner = entries.iter().filter(|entry| !VALUES.contains(&entry.key.as_str()));
            inner.for_each(|entry| walk(&entry.value, found));
        }
    }
}

fn scalar<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    let Yaml::Mapping(entries) = &node.value else { return None };
    match &entries.iter().find(|entry| entry.key == key)?.value.value {
        Yaml::Scalar(scalar) => Some(&scalar.text),
        Yaml::Sequence(_) | Yaml::Mapping(_) => None,
    }
}

/// Writes behind a text which of its steps are pivots by what they run.
#[must_use]
pub fn with_pivots(text: &str, steps: &BTreeSet<String>) -> String {
    if steps.is_empty() {
        return text.to_owned();
    }
    let names: Vec<&str> = steps.iter().map(String::as_str).collect();
    let line_break = if text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{line_break}{RESOLVED}{}\n", names.join(" "))
}

/// Reads what stands behind a text.
pub(super) fn pivots(text: &str) -> BTreeSet<String> {
    let last = text.lines().next_back().unwrap_or_default();
    last.strip_prefix(RESOLVED).unwrap_or_default().split(' ').filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_resolved_is_read_again() {
        let text = "saga: a\nversion: 3\nsteps:\n  - { id: b, run: c }\n  - id: d\n    switch:\n      - when: ${ true }\n        do: [{ id: e, run: f, version: 2 }]\n  - { id: g, run: h, pivot: false, compensate: { run: i } }\n";
        let text = &format!(
            "{text}  - {{ id: l, set: {{ id: x, run: y, pivot: true }} }}\n  - id: z\n    call: svc\n    with:\n      query: |\n        {{ a }}\n"
        );
        let found = outline(text).unwrap();
        let run = |step: &str, saga: &str, version| Run { step: step.into(), saga: saga.into(), version };
        assert_eq!((found.saga.as_str(), found.version, found.has_pivot), ("a", 3, false));
        assert_eq!(found.runs, [run("b", "c", None), run("e", "f", Some(2))]);
        let steps: BTreeSet<String> = ["b", "e"].map(str::to_owned).into();
        let whole = with_pivots(text, &steps);
        assert!(whole.starts_with(text) && whole.lines().count() == text.lines().count() + 1);
        assert_eq!(pivots(&whole), steps);
        assert_eq!(outline(&whole), Some(found), "what stands behind it is a comment, also behind a block");
        assert_eq!((pivots(text), with_pivots(text, &BTreeSet::new()).as_str()), (BTreeSet::new(), text.as_str()));
        assert_eq!(outline("steps: ["), None);
    }
}
