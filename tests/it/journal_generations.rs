//! Turns of generations: open runs are carried along, finished ones stay where they are, whole
//! directories go when their retention has passed, and nothing of it is visible to a reader.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstitch::journal::{Change, FinishedFilter, InboxState, Journal, Options, Recovered, Retention, SledJournal};
use backstitch::time::{Span, Timestamp};

use crate::journal_support::*;

/// Runs that stay open, two facts each; one of them is larger than a slice of carrying.
const OPEN: [(u64, usize); 3] = [(1_000_001, 40), (1_000_002, 9_000), (1_000_003, 400_000)];

async fn begin(journal: &SledJournal) {
    journal.commit(vec![definition()]).await.unwrap();
    for (run, bytes) in OPEN {
        let first = Transition0 { outbox: true, ..Transition0::of(run, bytes) };
        journal.commit(vec![Change::Run(first.build())]).await.unwrap();
        commit(journal, step(run, 1, bytes)).await;
    }
    journal.commit(vec![Change::Inbox(mark(7, &[1, 2])), Change::Inbox(mark(8, &[]))]).await.unwrap();
    journal.commit(vec![Change::Published { run: run_id(OPEN[0].0), number: 0 }]).await.unwrap();
}

/// A first transition with an event to publish.
struct Transition0 {
    run: u64,
    bytes: usize,
    outbox: bool,
}

impl Transition0 {
    fn of(run: u64, bytes: usize) -> Self {
        Self { run, bytes, outbox: false }
    }

    fn build(self) -> backstitch::journal::Transition {
        let outbox = if self.outbox { vec![publish(self.run, 0)] } else { Vec::new() };
        backstitch::journal::Transition { outbox, ..step(self.run, 0, self.bytes) }
    }
}

/// Commits finished runs until the journal has turned so many times.
async fn until_generation(journal: &SledJournal, from_run: u64, generation: u64) -> u64 {
    let mut run = from_run;
    while journal.stats().generation < generation {
        commit(journal, step(run, 0, 900)).await;
        commit(journal, end(run, 1, 10_000 + run)).await;
        run += 1;
        assert!(run < from_run + 20_000, "no turn after {run} runs");
    }
    run
}

fn check_open(recovered: &Recovered, journal: &SledJournal) {
    assert_eq!(recovered.runs.len(), OPEN.len());
    for (run, bytes) in OPEN {
        check_facts(recovered, run, 2, bytes);
        let history: Vec<_> = journal.history(run_id(run)).unwrap().into_iter().map(|(_, fact)| fact).collect();
        assert!(history == [fact(run, 0, bytes), fact(run, 1, bytes)], "history of {run}");
    }
    assert_eq!(recovered.outbox, [publish(OPEN[1].0, 0), publish(OPEN[2].0, 0)]);
    assert!(recovered.definitions.contains_key(&DEFINITION));
    assert_eq!(journal.inbox(None, &event(7)), InboxState::Partly { targets_left: vec![run_id(1), run_id(2)] });
    assert_eq!(journal.inbox(None, &event(8)), InboxState::Complete);
    assert_eq!(journal.inbox(Some(&position(8)), &event(99)), InboxState::Complete);
}

fn check_finished(journal: &SledJournal, runs: std::ops::Range<u64>) {
    for run in runs.clone() {
        assert_eq!(journal.history(run_id(run)).unwrap().len(), 2, "history of {run}");
        assert_eq!(journal.summary(run_id(run)).unwrap().unwrap(), format!("summary of {run}"));
        assert!(journal.tombstone(run_id(run)).unwrap().is_some(), "tombstone of {run}");
    }
    // Through the pages of a list, over all generations.
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = journal.finished(&FinishedFilter { after, limit: 37, ..Default::default() }).unwrap();
        let Some((last, _)) = page.last() else { break };
        after = Some((last.ended_at, last.run));
        listed.extend(page.iter().map(|(index, _)| index.ended_at.0 - 10_000));
    }
    assert_eq!(listed, runs.rev().collect::<Vec<_>>());
}

fn generations(path: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(path.join("generations")).unwrap();
    let mut numbers: Vec<u64> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn open_runs_are_carried_and_finished_ones_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    begin(&journal).await;
    let runs = until_generation(&journal, 0, 4).await;
    check_finished(&journal, 0..runs);
    drop(journal);

    let (journal, recovered) = open(dir.path());
    check_open(&recovered, &journal);
    check_finished(&journal, 0..runs);
    let more = until_generation(&journal, runs, 6).await;
    drop(journal);
    let (journal, recovered) = open(dir.path());
    check_open(&recovered, &journal);
    check_finished(&journal, 0..more);
}

#[tokio::test]
async fn old_generations_are_not_needed_after_a_turn() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Moved::at(20_000);
    let options = || Options {
        retention: Retention { age: Span::from_secs(60), bytes: None },
        ..crate::journal_support::options(dir.path())
    };
    let reopen = || SledJournal::open_at(options(), Arc::new(clock.clone())).unwrap();
    let (journal, _) = reopen();
    begin(&journal).await;
    let runs = until_generation(&journal, 0, 3).await;
    assert_eq!(generations(dir.path()), [1, 2, 3], "nothing is old enough");
    check_finished(&journal, 0..runs);

    clock.to(20_000 + 3_600_000);
    // The writer looks once a second; a commit is not needed for it.
    let gone = || async {
        while generations(dir.path()) != [3] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone()).await.expect("the first generations go");
    assert_eq!(journal.summary(run_id(0)).unwrap(), None, "its history went with it");
    assert!(journal.tombstone(run_id(0)).unwrap().is_some(), "its key did not");
    drop(journal);
    let (journal, recovered) = reopen();
    check_open(&recovered, &journal);
}

#[tokio::test]
async fn retention_by_size_removes_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 20 << 20;
    let options =
        Options { retention: Retention { age: Span::from_secs(86_400), bytes: Some(limit) }, ..options(dir.path()) };
    let (journal, _) = SledJournal::open(options).unwrap();
    begin(&journal).await;
    let mut runs = 0;
    let mut generation = 4;
    while generations(dir.path()).contains(&1) {
        runs = until_generation(&journal, runs, generation).await;
        generation += 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(generation < 200, "{} bytes are kept", journal.stats().disk_bytes);
    }
    assert!(journal.stats().disk_bytes < limit + (8 << 20), "{} bytes are kept", journal.stats().disk_bytes);
    drop(journal);
    let (journal, recovered) = open(dir.path());
    check_open(&recovered, &journal);
}

#[tokio::test]
async fn a_run_that_ends_while_it_is_carried_keeps_its_history() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.commit(vec![definition()]).await.unwrap();
    // Many open runs, so that carrying takes many slices, and commits come between them.
    let many = 600;
    let commits: Vec<_> = (0..many).map(|run| journal.commit(vec![Change::Run(step(run, 0, 4_000))])).collect();
    assert!(futures_util::future::join_all(commits).await.iter().all(Result::is_ok));
    assert!(journal.stats().generation >= 2, "a turn took place");
    let ends: Vec<_> =
        (0..many).rev().map(|run| journal.commit(vec![Change::Run(end(run, 1, 10_000 + run))])).collect();
    assert!(futures_util::future::join_all(ends).await.iter().all(Result::is_ok));
    check_finished(&journal, 0..many);
    drop(journal);
    let (journal, recovered) = open(dir.path());
    assert!(recovered.runs.is_empty());
    check_finished(&journal, 0..many);
}

#[tokio::test]
async fn definitions_follow_runs_that_begin_later() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.commit(vec![definition()]).await.unwrap();
    let runs = until_generation(&journal, 0, 4).await;
    commit(&journal, step(runs, 0, 10)).await;
    until_generation(&journal, runs + 1, 6).await;
    drop(journal);
    let (_, recovered) = open(dir.path());
    assert_eq!(recovered.runs.len(), 1);
    assert!(recovered.definitions.contains_key(&DEFINITION));
    assert_eq!(recovered.runs[0].facts[0].0, Timestamp(1_000));
}
