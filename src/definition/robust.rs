//! Files of a size or shape that nobody writes: read within a bound, or refused where they go too far.

use std::path::Path;
use std::time::{Duration, Instant};

use super::tests::World;
use super::*;

/// What one wrong file may take. A person waits for an editor that checks on each key.
const WRONG_FILE_MAX: Duration = Duration::from_millis(50);

fn many(count: usize) -> String {
    let steps: String = (0..count).map(|n| format!("  - {{ id: s{n}, wait: 1s }}\n")).collect();
    format!("saga: a\nsteps:\n{steps}")
}

/// Every step reads the one before it, through a schema of its own making.
fn chain(count: usize) -> String {
    let step = |n: usize| match n {
        0 => "  - { id: s0, set: { n: 1 } }\n".to_owned(),
        n => format!("  - {{ id: s{n}, set: {{ n: \"${{ $steps.s{}.output.n + 1 }}\" }} }}\n", n - 1),
    };
    format!("saga: a\nsteps:\n{}", (0..count).map(step).collect::<String>())
}

fn nested(depth: usize) -> String {
    let (mut text, mut indent) = ("saga: a\nsteps:\n".to_owned(), 2);
    for n in 0..depth {
        let pad = " ".repeat(indent);
        text.push_str(&format!("{pad}- id: s{n}\n{pad}  switch:\n{pad}    - else:\n"));
        indent += 8;
    }
    text.push_str(&format!("{}- {{ id: end, wait: 1s }}\n", " ".repeat(indent)));
    text
}

/// Each alias names the level below ten times.
fn bomb(levels: usize) -> String {
    let mut text = "saga: a\nx0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
    for level in 1..=levels {
        let inner = vec![format!("*x{}", level - 1); 10].join(", ");
        text.push_str(&format!("x{level}: &x{level} [{inner}]\n"));
    }
    text + "steps: [{ id: a, wait: 1s }]\n"
}

/// Why, text, and the code and line of the refusal; line 0: any.
type Row = (&'static str, String, Option<(&'static str, usize)>);

#[test]
fn large_files_are_read_or_refused_where_they_go_too_far() {
    let rows: &[Row] = &[
        // why, text, code and line of the refusal
        ("as many steps as are allowed", many(STEPS_MAX), None),
        ("one step more", many(STEPS_MAX + 1), Some(("S003", STEPS_MAX + 3))),
        ("each step reads the one before", chain(STEPS_MAX), None),
        ("200 levels of switches", nested(200), Some(("S001", 0))),
        (
            "200 levels of braces",
            format!("saga: a\nsteps: {}1{}\n", "[".repeat(200), "]".repeat(200)),
            Some(("S001", 2)),
        ),
        ("200 levels of lists", format!("saga: a\nsteps:\n  {}1\n", "- ".repeat(200)), Some(("S001", 3))),
        ("an alias bomb of a billion", bomb(9), Some(("S003", 0))),
        ("an alias bomb of two levels is only long", bomb(2), Some(("S007", 2))),
    ];
    let world = World::new();
    for (why, text, refused) in rows {
        let start = Instant::now();
        let found = load("large.yaml", text, &world.environment()).map(|_| ()).err().unwrap_or_default();
        let took = start.elapsed();
        let first = found.iter().find(|one| one.severity == Severity::Error).map(|one| (one.code, one.line));
        match refused {
            None => assert_eq!(first, None, "{why}"),
            Some((code, line)) => {
                let (found, at) = first.unwrap_or_else(|| panic!("{why}: not refused"));
                assert_eq!(found, *code, "{why}");
                assert!(at >= 1 && (*line == 0 || at == *line), "{why}: refused in line {at}");
            }
        }
        assert!(found.len() <= DIAGNOSTICS_MAX, "{why}");
        println!("{why}: {} bytes, {took:?}", text.len());
    }
}

#[test]
fn each_wrong_file_takes_less_than_50_ms() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let world = World::new();
    let mut slowest = (Duration::ZERO, String::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let once = || {
            let start = Instant::now();
            drop(load("wrong.yaml", &text, &world.environment()));
            start.elapsed()
        };
        // The machine may be doing something else: the best of five is what the file takes.
        let took = (0..5).map(|_| once()).min().unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(took < WRONG_FILE_MAX, "{name} takes {took:?}");
        slowest = slowest.max((took, name));
    }
    println!("the slowest is {} with {:?}", slowest.1, slowest.0);
}
