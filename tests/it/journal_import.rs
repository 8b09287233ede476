//! An export makes the same journal again; one that is not whole makes none.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::journal_support::*;
use backstitch::journal::sled_store::{export, import};
use backstitch::journal::{Change, Error, InboxState, Journal, Options, Retention, SledJournal};
use backstitch::time::Span;

/// Makes a journal of several generations of which the first are gone, so that only the keys remain of them:
/// run 1 is open, and all others have ended.
async fn make(dir: &Path) -> u64 {
    let clock = Moved::at(20_000);
    let keep = Retention { age: Span::from_secs(60), bytes: None };
    let options = Options { retention: keep, ..options(dir) };
    let (journal, _) = SledJournal::open_at(options, Arc::new(clock.clone())).unwrap();
    journal.commit(vec![definition()]).await.unwrap();
    let mut first = step(1, 0, 20_000);
    first.outbox = vec![publish(1, 0), publish(1, 1)];
    first.inbox = Some(mark(1, &[1, 2]));
    journal.commit(vec![Change::Run(first), Change::Inbox(mark(3, &[]))]).await.unwrap();
    journal.commit(vec![Change::Published { run: run_id(1), number: 0 }]).await.unwrap();
    journal.commit(vec![Change::Setting { name: "rollout".into(), value: Some("{}".into()) }]).await.unwrap();
    let mut run = 10;
    let began = Instant::now();
    while journal.stats().generation < 6 || generation_dirs(dir).contains(&"00000002".to_owned()) {
        assert!(began.elapsed() < Duration::from_secs(60), "the first generations go");
        if journal.stats().generation == 4 {
            clock.to(20_000 + 3_600_000);
        }
        commit(&journal, step(run, 0, 900)).await;
        let ended_at = if journal.stats().generation < 4 { 10_000 } else { 3_620_000 } + run;
        commit(&journal, end(run, 1, ended_at)).await;
        run += 1;
    }
    journal.close().await.unwrap();
    run
}

fn generation_dirs(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("generations")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn exported(dir: &Path) -> String {
    let mut text = Vec::new();
    export(dir, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Everything that a reader can ask, run by run.
fn content(dir: &Path, runs: u64) -> String {
    let (journal, recovered) = open(dir);
    check_facts(&recovered, 1, 1, 20_000);
    assert_eq!(recovered.outbox, [publish(1, 1)], "what was published is not published again");
    assert_eq!(recovered.settings.get("rollout").map(|value| &**value), Some("{}"));
    assert_eq!(journal.inbox(Some(&position(3)), &event(3)), InboxState::Complete);
    let gone = (10..runs).filter(|run| journal.summary(run_id(*run)).unwrap().is_none()).count();
    assert!(gone > 0, "of the first runs only the keys are left");
    let runs = (10..runs).map(|run| {
        let run = run_id(run);
        let key = journal.tombstone(run).unwrap().expect("every key is known");
        format!("{key:?} {:?} {:?}\n", journal.summary(run).unwrap(), journal.history(run).unwrap())
    });
    runs.collect::<String>() + &format!("{:?}", journal.inbox(Some(&position(1)), &event(1)))
}

#[tokio::test]
async fn an_export_makes_the_same_journal_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, again) = (dir.path().join("journal"), dir.path().join("again"));
    let runs = make(&path).await;
    let text = exported(&path);
    let report = import(Path::new("records.jsonl"), &mut text.as_bytes(), &again).unwrap();
    assert!(report.verified.is_whole(), "{report}");
    assert_eq!(report.verified.path, again, "it is told where it lies, not where it was made");
    assert_eq!(content(&again, runs), content(&path, runs));
    let records = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.contains(r#""record":"key""#)).map(str::to_owned).collect()
    };
    let second = exported(&again);
    let (before, after) = (records(&text), records(&second));
    assert_eq!(before[..before.len() - 1], after[..after.len() - 1], "record for record");

    let refused = import(Path::new("records.jsonl"), &mut text.as_bytes(), &again).map(|_| ()).unwrap_err();
    assert!(matches!(&refused, Error::Refused { .. }) && refused.to_string().contains("is there already"), "{refused}");
    let (journal, _) = open(&again);
    commit(&journal, step(2, 0, 10)).await;
    assert_eq!(journal.history(run_id(2)).unwrap().len(), 1, "it is written on");
}

#[tokio::test]
async fn an_export_that_is_not_whole_makes_no_journal() {
    type Edit = fn(Vec<&str>) -> String;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    make(&path).await;
    let text = exported(&path);
    fn joined(lines: &[&str]) -> String {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
    fn last_of(lines: &[&str], kind: &str) -> usize {
        lines.iter().rposition(|line| line.contains(&format!(r#""record":"{kind}""#))).unwrap()
    }
    const UNCHECKED: &str = r#"{"generation":0,"commit":0,"written_at":0,"record":"end"}"#;
    const NOUGHT: &str = r#"{"generation":1,"commit":0,"written_at":0,"record":"carry_done"}"#;
    let rows: [(&str, Edit, &str); 11] = [
        ("a commit 0", |_| joined(&[NOUGHT, UNCHECKED]), "line 1: commit is 0; it goes from 1"),
        ("nothing", |_| String::new(), "line 0: the export ends without its last line"),
        ("another file", |_| "saga: order\n".to_owned(), "line 1, column 1: expected value"),
        ("cut off between lines", |lines| joined(&lines[..lines.len() - 1]), "without its last line: it was cut off"),
        ("cut off in a line", |lines| joined(&lines[..5]) + &lines[5][..20], "line 6, column 20: EOF while parsing"),
        (
            "a line less",
            |mut lines| {
                lines.remove(lines.len() - 2);
                joined(&lines)
            },
            "lines were exported before it",
        ),
        ("something behind it", |lines| joined(&lines) + lines[0], "more behind the export's last line"),
        (
            "a commit less",
            |mut lines| {
                let transition = |line: &str| line.contains(r#""record":"transition""#);
                let fifth = (0..lines.len()).filter(|at| transition(lines[*at])).nth(4).unwrap();
                lines.remove(fifth);
                joined(&lines)
            },
            "follows commit",
        ),
        (
            "its first record less",
            |mut lines| {
                lines.remove(last_of(&lines, "generation")); // the last one, in the middle of the file
                joined(&lines)
            },
            "does not begin with its first record",
        ),
        (
            "a changed line",
            |lines| joined(&lines).replace(r#""even""#, r#""EVEN""#),
            "take `crc32` out of it if you changed them",
        ),
        (
            "a fact less",
            |lines| {
                let open = run_id(1).to_string();
                let edited = |line: &&str| match line {
                    line if line.contains(r#""carried""#) && line.contains(&open) => {
                        line.replace(r#""sequence":0"#, r#""sequence":1"#)
                    }
                    line if line.contains(r#""end""#) => UNCHECKED.to_owned(),
                    line => (*line).to_owned(),
                };
                lines.iter().map(|line| edited(line) + "\n").collect()
            },
            "it is no whole journal",
        ),
    ];
    let to = dir.path().join("again");
    for (why, edit, said) in rows {
        let wrong = edit(text.lines().collect());
        let made = import(Path::new("records.jsonl"), &mut wrong.as_bytes(), &to);
        let refused = made.map_or_else(|error| error.to_string(), |report| format!("not refused: {report}"));
        assert!(refused.starts_with("records.jsonl: line ") && refused.contains(said), "{why}: {refused}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{why}: nothing is left");
    }

    // A byte changed anywhere is noticed.
    let mut seed = 7_u64;
    for _ in 0..60 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut wrong = text.clone().into_bytes();
        let at = (seed >> 33) as usize % wrong.len();
        wrong[at] ^= 1 << (seed >> 60 & 7);
        let made = import(Path::new("records.jsonl"), &mut &*wrong, &to).map(|_| ());
        assert!(matches!(made, Err(Error::Refused { .. })), "byte {at}: {made:?}");
    }
}
