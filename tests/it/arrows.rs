//! Arrows between modules point down only: shell → adapters → pure core. Reads the source, so that a
//! wrong `use` fails here with its line and the way out, not in a review.

use std::fs;
use std::path::Path;

use crate::tidy::{is_test_file, product_lines, rust_files, shown};

/// Decide and describe; open nothing, wait for nothing, ask nobody the time.
const PURE: &[&str] = &[
    "definition",
    "envelope",
    "expression",
    "id",
    "openapi",
    "payload",
    "problem",
    "protobuf",
    "request",
    "resilience",
    "saga",
    "schema",
    "secret",
    "service",
    "signature",
    "small_map",
    "time",
    "trace_context",
    "trust",
    "webhook",
    "xml",
];

/// Know one outside thing each.
const ADAPTERS: &[&str] = &["bus", "config", "connector", "journal", "notify", "postgres", "telemetry"];

/// Words that a pure module has no use for, and what to do instead.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "keep the waiting in the coordinator"),
    ("std::fs", "take the text as an argument"),
    ("std::net", "leave sockets to an adapter"),
    ("std::process", "leave processes to the shell"),
    ("std::env", "take the value as an argument"),
    ("thread::spawn", "keep threads in the coordinator"),
    ("thread::scope", "keep threads in the coordinator"),
    ("thread::sleep", "leave waiting to the coordinator"),
    ("Instant", "take `now: Timestamp` as an argument"),
    ("SystemTime", "take `now: Timestamp` as an argument"),
    ("Timestamp::now", "take `now: Timestamp` as an argument"),
    ("now_v7", "take the id as an argument"),
    ("new_v4", "derive the id (UUID v5), or take it as an argument"),
    ("HashMap", "use BTreeMap: its order is the same in every process"),
    ("HashSet", "use BTreeSet: its order is the same in every process"),
    ("rand::", "derive it from identities by a hash"),
];

/// Returns the module that a file belongs to: the first part below `src`, `main` for the roots.
fn module_of(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// Says why `from` may not name `to`, if it may not.
fn forbidden(from: &str, file: &str, to: &str) -> Option<&'static str> {
    let to_adapter = ADAPTERS.contains(&to);
    let to_shell = ["api", "app", "cli", "coordinator", "events", "ui"].contains(&to);
    if PURE.contains(&from) {
        return (to_adapter || to_shell)
            .then_some("a pure module names pure modules only; take the value as an argument");
    }
    if ADAPTERS.contains(&from) {
        if to_shell {
            return Some("an adapter does not know who drives it; return the value to the coordinator");
        }
        if to == "saga" {
            return Some("an adapter does not know the core; move the shared type to a module of its own");
        }
        return (to_adapter && to != from)
            .then_some("adapters do not name each other; let the coordinator carry the value across");
    }
    if to == "saga" && from != "coordinator" {
        return Some("only the coordinator drives the core; go through coordinator::Handle");
    }
    if ["api", "cli", "ui"].contains(&from) && ["bus", "connector", "journal", "postgres"].contains(&to) {
        // The commands that work on a closed journal have no coordinator to ask.
        let offline = file.starts_with("src/cli/journal") && to == "journal";
        return (!offline).then_some("reach runs through coordinator::Handle and events through events::Events; processes are put together in app.rs");
    }
    None
}

/// Returns the modules that follow `crate::` in a text, each with its line: `crate::a::b`, `crate::{a::x, b}`.
fn named_modules(lines: &[(usize, &str)]) -> Vec<(usize, String)> {
    let mut text = String::new();
    let mut starts = Vec::new();
    for (at, line) in lines {
        starts.push((text.len(), *at));
        text.push_str(line);
        text.push('\n');
    }
    let line_of = |offset: usize| starts[starts.partition_point(|(start, _)| *start <= offset) - 1].1;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (offset, _) in text.match_indices("crate::") {
        if text[..offset].ends_with(is_name) || text[..offset].ends_with('$') {
            continue;
        }
        let rest = &text[offset + "crate::".len()..];
        if !rest.starts_with('{') {
            found.push((line_of(offset), rest.chars().take_while(|c| is_name(*c)).collect()));
            continue;
        }
        let mut depth = 0;
        let mut word_begins = false;
        for (at, c) in rest.char_indices() {
            match c {
                '{' => {
                    depth += 1;
                    word_begins = depth == 1;
                }
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                ',' => word_begins = depth == 1,
                c if is_name(c) && word_begins => {
                    word_begins = false;
                    found.push((line_of(offset), rest[at..].chars().take_while(|c| is_name(*c)).collect()));
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn arrows_point_down() {
    let mut findings = Vec::new();
    for path in rust_files("src").iter().filter(|path| !is_test_file(path)) {
        let (from, file) = (module_of(path), shown(path));
        let text = fs::read_to_string(path).unwrap();
        for (at, to) in named_modules(&product_lines(&text)) {
            if let Some(instead) = forbidden(&from, &file, &to) {
                findings.push(format!("{file}:{at}: `{from}` names `crate::{to}`: {instead}"));
            }
        }
    }
    assert!(findings.is_empty(), "{} wrong arrow(s):\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn the_core_is_pure() {
    let mut findings = Vec::new();
    for path in rust_files("src").iter().filter(|path| !is_test_file(path)) {
        if !PURE.contains(&module_of(path).as_str()) {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        for (at, line) in product_lines(&text) {
            let code = line.split("//").next().unwrap_or(line);
            for (word, instead) in IMPURE.iter().filter(|(word, _)| names(code, word)) {
                findings.push(format!("{}:{at}: `{word}` in a pure module: {instead}", shown(path)));
            }
        }
    }
    assert!(findings.is_empty(), "{} finding(s):\n{}", findings.len(), findings.join("\n"));
}

/// True if a line names a word, not only a longer one that holds it.
fn names(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let after = &line[at + word.len()..];
        !line[..at].ends_with(is_name) && (word.ends_with(':') || !after.starts_with(is_name))
    })
}

#[test]
fn the_guard_sees_what_it_must() {
    let rows: &[(&str, &str, &str, &str, bool)] = &[
        // why, from, file, to, refused
        ("pure to pure", "saga", "src/saga/decide.rs", "definition", false),
        ("pure to adapter", "saga", "src/saga/decide.rs", "journal", true),
        ("pure to shell", "schema", "src/schema/mod.rs", "coordinator", true),
        ("adapter to itself", "bus", "src/bus/jetstream.rs", "bus", false),
        ("adapter to adapter", "bus", "src/bus/jetstream.rs", "journal", true),
        ("adapter to the core", "journal", "src/journal/mod.rs", "saga", true),
        ("the coordinator sees both", "coordinator", "src/coordinator/driver.rs", "saga", false),
        ("the coordinator sees both", "coordinator", "src/coordinator/driver.rs", "journal", false),
        ("api to the core", "api", "src/api/runs.rs", "saga", true),
        ("api to an adapter", "api", "src/api/runs.rs", "journal", true),
        ("api to the handle", "api", "src/api/runs.rs", "coordinator", false),
        ("offline tool", "cli", "src/cli/journal.rs", "journal", false),
        ("put together here", "app", "src/app.rs", "journal", false),
    ];
    for (why, from, file, to, refused) in rows {
        assert_eq!(forbidden(from, file, to).is_some(), *refused, "{why}: {from} -> {to}");
    }
    let lines =
        [(3, "use crate::id::RunId;"), (4, "use crate::{bus::Bus,"), (5, "    journal::{Change, Stats}, time};")];
    let named: Vec<(usize, String)> = named_modules(&lines);
    let expected = [(3, "id"), (4, "bus"), (4, "journal"), (4, "time")].map(|(at, name)| (at, name.to_owned()));
    assert_eq!(named, expected);
    assert!(names("use std::time::Instant;", "Instant") && !names("let InstantX = 1;", "Instant"));
}
