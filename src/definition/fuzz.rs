//! Files that nobody would write: whatever the text, loading ends, does not panic, and every diagnostic
//! points into the file.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::tests::{ORDER, World};
use super::*;

fn check(text: &str) {
    let world = World::new();
    match load("fuzz.yaml", text, &world.environment()) {
        Ok(loaded) => {
            let again = reload("fuzz.yaml", &loaded.definition.source).expect("what loads, loads again");
            assert_eq!(again.steps.len(), loaded.definition.steps.len());
            let saga = &loaded.definition;
            for (index, step) in saga.steps.iter().enumerate() {
                let list = &saga.block(step.block).steps;
                assert_eq!(list[step.position as usize], index as StepIndex, "step {} is in no list", step.path);
            }
        }
        Err(found) => {
            assert!(found.iter().any(|one| one.severity == Severity::Error), "refused without an error:\n{text}");
            for one in &found {
                assert!(text.get(one.span.clone()).is_some(), "{one} points outside of\n{text}");
                assert!(one.line >= 1 && one.column >= 1 && !one.message.contains('\n'));
                assert!(one.render(text, Style::Plain).contains(one.code));
            }
            assert!(found.len() <= DIAGNOSTICS_MAX);
        }
    }
}

fn config(cases: u32) -> Config {
    // `make fuzz` asks for more.
    let cases = std::env::var("FUZZ_CASES").map_or(cases, |cases| cases.parse().expect("FUZZ_CASES is a number"));
    Config { cases, failure_persistence: None, max_shrink_iters: 500, ..Config::default() }
}

/// Pieces that mean something to one of the parsers.
const PIECES: &[&str] = &[
    "\n",
    " ",
    "  ",
    "- ",
    ": ",
    ":",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    "|",
    ">",
    "&a ",
    "*a",
    "!t ",
    "<<: ",
    "---\n",
    "...\n",
    "#",
    "?",
    "%",
    "@",
    "`",
    "\t",
    "\u{feff}",
    "é",
    "\u{2028}",
    "\r\n",
    "null",
    "~",
    "true",
    "012",
    "${ ",
    "${",
    " }",
    "$input.a",
    "$steps.ship.output",
    "$forward.output",
    "// null",
    "\\(",
    "map(",
    "id: a",
    "id: ship",
    "call: payments",
    "with:",
    "switch:",
    "when:",
    "do:",
    "else:",
    "pivot: true",
    "compensate: none",
    "compensate:",
    "emit: order.shipped.v1",
    "fail:",
    "set:",
    "wait: 1s",
    "steps:",
    "saga: x",
    "retry:",
    "attempts: 3",
    "if:",
    "timeout: 3s",
    "output:",
    "on_unknown:",
    "check:",
    "happened:",
    "finally:",
    "completed:",
    "defaults:",
    "services:",
    "input:",
    "schema:",
    "lock:",
];

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn a_good_file_with_wounds(edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(PIECES)), 1..6)) {
        let mut text = ORDER.to_owned();
        for (at, remove, insert) in edits {
            let from = locate::floor(&text, at.index(text.len() + 1));
            let to = locate::floor(&text, (from + remove).min(text.len())).max(from);
            text.replace_range(from..to, insert);
        }
        check(&text);
    }

    #[test]
    fn lines_dropped_doubled_and_shifted(edits in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..4), 1..6)) {
        let mut lines: Vec<String> = ORDER.lines().map(str::to_owned).collect();
        for (at, kind) in edits {
            let at = at.index(lines.len());
            match kind {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[at].clone()),
                2 => lines[at].insert_str(0, "  "),
                _ => lines[at] = lines[at].trim_start_matches("  ").to_owned(),
            }
        }
        check(&lines.join("\n"));
    }

    #[test]
    fn pieces_in_any_order(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        check(&pieces.concat());
    }

    #[test]
    fn any_text(text in "(?s).{0,60}") {
        check(&text);
    }
}

#[test]
fn large_and_deep_files_end() {
    let many = |count: usize| {
        format!(
            "saga: a\nsteps:\n{}",
            (0..count).map(|n| format!("  - {{ id: s{n}, wait: 1s }}\n")).collect::<String>()
        )
    };
    let reads = format!(
        "saga: a\nsteps:\n{}",
        (1..400)
            .map(|n| format!(
                "  - {{ id: s{n}, set: \"${{ $steps.s{}.output // $steps.s{}.output }}\" }}\n",
                n - 1,
                n + 1
            ))
            .collect::<String>()
    );
    let texts = [
        many(500),
        many(501),
        many(20_000),
        reads,
        "saga: ".to_owned() + &"x".repeat(900_000),
        "[".repeat(1_000_000),
        "- ".repeat(500_000),
        "a: ".repeat(300_000),
        "? ".repeat(400_000),
        "saga: a\nsteps:\n  - { id: a, set: \"".to_owned() + &"${ .a }".repeat(1_000) + "\" }\n",
        "saga: a\nsteps:\n  - id: a\n    set: |\n".to_owned() + &"      ${ $inptu }\n".repeat(200),
        "saga: a\n".to_owned() + &(0..20_000).map(|n| format!("k{n}: 1\n")).collect::<String>(),
    ];
    for text in &texts {
        let start = std::time::Instant::now();
        check(text);
        let took = start.elapsed();
        assert!(took.as_secs() < 60, "{} bytes beginning with {:?} took {took:?}", text.len(), &text[..20]);
    }
}
