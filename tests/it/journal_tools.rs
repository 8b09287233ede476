//! Verify, backup, restore and export, on a journal at rest and on one in use.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backstitch::journal::sled_store::{backup, export, restore, verify};
use backstitch::journal::{Change, Error, Journal, SledJournal};

use crate::journal_support::*;

/// Makes a journal of several generations: run 1 stays open, runs from 10 on have ended.
async fn make(dir: &Path) -> (SledJournal, u64) {
    let (journal, _) = open(dir);
    journal.commit(vec![definition()]).await.unwrap();
    let mut first = step(1, 0, 20_000);
    first.outbox = vec![publish(1, 0)];
    first.inbox = Some(mark(1, &[1, 2]));
    journal.commit(vec![Change::Run(first)]).await.unwrap();
    let mut run = 10;
    while journal.stats().generation < 3 {
        commit(&journal, step(run, 0, 900)).await;
        commit(&journal, end(run, 1, 10_000 + run)).await;
        run += 1;
    }
    (journal, run)
}

fn check_content(dir: &Path, runs: u64) {
    let (journal, recovered) = open(dir);
    check_facts(&recovered, 1, 1, 20_000);
    assert_eq!(recovered.outbox, [publish(1, 0)]);
    for run in 10..runs {
        assert_eq!(journal.history(run_id(run)).unwrap().len(), 2, "run {run}");
        assert!(journal.tombstone(run_id(run)).unwrap().is_some(), "run {run}");
    }
}

#[tokio::test]
async fn a_backup_taken_while_commits_go_on_is_a_whole_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, runs) = make(&dir.path().join("journal")).await;
    let journal = Arc::new(journal);
    let done = Arc::new(AtomicBool::new(false));
    let work = tokio::spawn({
        let (journal, done) = (journal.clone(), done.clone());
        async move {
            let mut run = 1_000_000;
            while !done.load(Ordering::Relaxed) {
                commit(&journal, step(run, 0, 900)).await;
                run += 1;
            }
            run
        }
    });
    let to = dir.path().join("backup");
    let taken = tokio::task::spawn_blocking({
        let (journal, to) = (journal.clone(), to.clone());
        move || (journal.backup(&to).unwrap(), journal.verify().unwrap(), journal.backup(&to).map(|_| ()))
    });
    let (report, live, again) = taken.await.unwrap();
    done.store(true, Ordering::Relaxed);
    let last = work.await.unwrap();
    assert!(report.verified.is_whole(), "{report}");
    assert!(live.is_whole(), "{live}");
    assert!(matches!(again, Err(Error::Refused { .. })), "a backup is never written over");
    drop(journal);
    check_content(&to, runs);
    let (_, recovered) = open(&dir.path().join("journal"));
    assert_eq!(recovered.runs.len() as u64, 1 + last - 1_000_000, "the journal went on meanwhile");
}

#[tokio::test]
async fn a_backup_is_put_back_and_what_was_there_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("journal"), dir.path().join("backup"));
    let (journal, runs) = make(&path).await;
    let refused = backup(&path, &copy).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains(&format!("process {} holds it", std::process::id())), "{refused}");
    drop(journal);
    let report = backup(&path, &copy).unwrap();
    assert!(report.verified.is_whole(), "{report}");

    let (journal, _) = open(&path);
    commit(&journal, step(2, 0, 10)).await;
    assert!(matches!(restore(&copy, &path), Err(Error::Locked { .. })));
    drop(journal);
    let report = restore(&copy, &path).unwrap();
    check_content(&path, runs);
    let before = report.before.unwrap();
    let (_, recovered) = open(&before);
    assert!(recovered.runs.iter().any(|open| open.run == run_id(2)), "what was there before is kept");

    let elsewhere = dir.path().join("elsewhere");
    assert_eq!(restore(&copy, &elsewhere).unwrap().before, None);
    check_content(&elsewhere, runs);
}

#[tokio::test]
async fn verify_names_what_is_damaged_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (journal, _) = make(&path).await;
    let locked = verify(&path).map(|_| ()).unwrap_err();
    assert!(matches!(locked, Error::Locked { .. }));
    // Sealing goes on between commits; who closes the journal does not wait for it.
    let ends = path.join("generations/00000002/ends.pages");
    let began = Instant::now();
    let mut run = 2_000_000;
    while !ends.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "generation 2 is sealed");
        commit(&journal, step(run, 0, 10)).await;
        run += 1;
    }
    drop(journal);

    let report = verify(&path).unwrap();
    assert!(report.is_whole(), "{report}");
    assert!(report.to_string().ends_with("every record passes its checksum"), "{report}");
    assert!(report.generations.len() >= 3 && report.keys > 0, "{report}");

    // The middle of a sealed store, an index, the keys: each is found, all in one report.
    let db = path.join("generations/00000002/db");
    let index = path.join("generations/00000002/runs.pages");
    let keys = fs::read_dir(path.join("keys/1970-01")).unwrap().next().unwrap().unwrap().path();
    for file in [&db, &index, &keys] {
        let mut bytes = fs::read(file).unwrap();
        if file == &db {
            // Everywhere: sled keeps copies of a page that nobody reads any more.
            let word = b"summary of ";
            let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(word)).collect();
            assert!(!places.is_empty());
            places.into_iter().for_each(|at| bytes[at] ^= 1);
        } else {
            bytes[4_200] ^= 1;
        }
        fs::write(file, bytes).unwrap();
    }
    let before = fs::read(&db).unwrap();
    let report = verify(&path).unwrap();
    let text = report.to_string();
    assert!(!report.is_whole() && report.findings.len() >= 3, "{text}");
    for file in ["runs.pages", keys.file_name().unwrap().to_str().unwrap(), "00000002"] {
        assert!(text.contains(file), "{file} is named: {text}");
    }
    assert!(fs::read(&db).unwrap() == before, "what is verified is not written");
    let refused = restore(&path, &dir.path().join("elsewhere")).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("this backup is damaged"), "{refused}");
}

#[tokio::test]
async fn an_export_is_json_lines() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, runs) = make(dir.path()).await;
    let mut live = Vec::new();
    let lines = journal.export(&mut live).unwrap();
    drop(journal);
    let read = |text: &[u8]| -> Vec<serde_json::Value> {
        String::from_utf8_lossy(text).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(read(&live).len() as u64, lines + 1, "and the last line, which tells how many there are");
    let mut text = Vec::new();
    export(dir.path(), &mut text).unwrap();
    let lines = read(&text);
    let transitions = |lines: &[serde_json::Value]| -> Vec<serde_json::Value> {
        lines.iter().filter(|line| line["record"] == "transition").cloned().collect()
    };
    assert_eq!(transitions(&read(&live)), transitions(&lines), "the same in use and at rest");
    let count = |word: &str| lines.iter().filter(|line| line["record"] == word).count() as u64;
    assert_eq!(count("transition"), 1 + 2 * (runs - 10));
    assert!(count("definition") >= 1 && count("generation") == 3 && count("carried") >= 1);
    let end = lines.iter().find(|line| line["ended"]["key"] == "K-10").unwrap();
    assert_eq!(end["ended"]["state"], "completed");
    assert!(end["commit"].as_u64().unwrap() > 1);
}
