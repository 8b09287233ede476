//! The journal on sled seen from outside: commit, look up, close, open again.

use backstitch::journal::{Change, Error, FinishedFilter, InboxState, Journal, SledJournal};
use backstitch::time::Timestamp;
use futures_util::future::join_all;

use crate::journal_support::*;

#[tokio::test]
async fn what_was_committed_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, recovered) = open(dir.path());
    assert!(recovered.runs.is_empty());
    journal.commit(vec![definition()]).await.unwrap();
    // Sizes on both sides of a piece's, and a payload of many pieces.
    for (run, bytes) in [(0, 10), (1, 3_900), (2, 3_990), (3, 4_000), (4, 300_000)] {
        for sequence in 0..3 {
            commit(&journal, step(run, sequence, bytes)).await;
        }
    }
    let mut several = step(5, 0, 100);
    several.outbox = vec![publish(5, 0), publish(5, 1)];
    several.inbox = Some(mark(1, &[5, 6]));
    journal.commit(vec![Change::Run(several), Change::Inbox(mark(2, &[]))]).await.unwrap();
    journal.commit(vec![Change::Published { run: run_id(5), number: 0 }]).await.unwrap();
    journal.close().await.unwrap();
    assert!(matches!(journal.commit(vec![definition()]).await, Err(Error::Closed)));
    drop(journal);

    let (journal, recovered) = open(dir.path());
    assert_eq!(recovered.runs.len(), 6);
    for (run, bytes) in [(0, 10), (1, 3_900), (2, 3_990), (3, 4_000), (4, 300_000)] {
        check_facts(&recovered, run, 3, bytes);
        let history: Vec<_> = journal.history(run_id(run)).unwrap().into_iter().map(|(_, fact)| fact).collect();
        assert_eq!(history, (0..3).map(|sequence| fact(run, sequence, bytes)).collect::<Vec<_>>());
    }
    assert_eq!(recovered.outbox, [publish(5, 1)]);
    assert_eq!(recovered.definitions.get(&DEFINITION).map(|text| &**text), Some("saga: order"));
    assert_eq!(journal.inbox(None, &event(1)), InboxState::Partly { targets_left: vec![run_id(6)] });
    assert_eq!(journal.inbox(Some(&position(2)), &event(99)), InboxState::Complete);
    assert_eq!(journal.inbox(Some(&position(3)), &event(3)), InboxState::New);
    assert!(std::fs::read_dir(dir.path().join("generations/00000001/blobs")).unwrap().next().is_none());
}

#[tokio::test]
async fn commits_queued_together_share_a_sync_and_few_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let before = journal.stats();
    let commits: Vec<_> = (0..400).map(|run| journal.commit(vec![Change::Run(step(run, 0, 900))])).collect();
    assert!(join_all(commits).await.iter().all(Result::is_ok));
    let stats = journal.stats();
    let (commits, keys) = (stats.commits - before.commits, stats.keys - before.keys);
    assert_eq!(stats.transitions, 400);
    assert!(commits <= 40, "400 queued transitions took {commits} commits");
    assert!(keys <= 200, "400 transitions of 900 bytes took {keys} keys; at most 0.5 each");
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (_journal, _) = open(dir.path());
    let message = SledJournal::open(options(dir.path())).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains(&format!("process {} holds it", std::process::id())), "{message}");
}

#[tokio::test]
async fn only_the_next_fact_of_a_run_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    commit(&journal, step(1, 0, 10)).await;
    let mut stale = step(1, 1, 10);
    stale.epoch = 0;
    let rows = [
        ("a gap", step(1, 2, 10)),
        ("a repetition", step(1, 0, 10)),
        ("an older owner", stale),
        ("a run that begins in the middle", step(2, 1, 10)),
    ];
    for (why, transition) in rows {
        assert!(journal.commit(vec![Change::Run(transition)]).await.is_err(), "{why}");
    }
    commit(&journal, end(1, 1, 9_000)).await;
    let after = journal.commit(vec![Change::Run(step(1, 2, 10))]).await;
    assert!(matches!(after, Err(Error::Ended { .. })));
}

#[tokio::test]
async fn finished_runs_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    for run in 0..30 {
        commit(&journal, step(run, 0, 10)).await;
        commit(&journal, end(run, 1, 10_000 + run)).await;
    }
    let list = |filter: FinishedFilter| -> Vec<u64> {
        let found = journal.finished(&FinishedFilter { limit: 5, ..filter }).unwrap();
        found.iter().map(|(index, _)| index.ended_at.0 - 10_000).collect()
    };
    let text = |text: &str| Some(text.to_owned());
    let rows: Vec<(&str, FinishedFilter, &[u64])> = vec![
        ("newest first", FinishedFilter::default(), &[29, 28, 27, 26, 25]),
        ("by saga", FinishedFilter { saga: text("odd"), ..Default::default() }, &[29, 27, 25, 23, 21]),
        ("by key", FinishedFilter { key: text("K-3"), ..Default::default() }, &[3]),
        ("by correlation", FinishedFilter { correlation_id: text("C-0"), ..Default::default() }, &[9, 8, 7, 6, 5]),
        ("by state", FinishedFilter { state: text("compensated"), ..Default::default() }, &[]),
        ("since", FinishedFilter { since: Some(Timestamp(10_027)), ..Default::default() }, &[29, 28, 27]),
        (
            "behind a cursor",
            FinishedFilter { after: Some((Timestamp(10_002), run_id(2))), ..Default::default() },
            &[1, 0],
        ),
    ];
    for (why, filter, expected) in rows {
        assert_eq!(list(filter), expected, "{why}");
    }
    assert_eq!(journal.summary(run_id(4)).unwrap().as_deref(), Some(&b"summary of 4"[..]));
    assert_eq!(journal.summary(run_id(99)).unwrap(), None);
    assert_eq!(journal.tombstone(run_id(4)).unwrap().map(|tombstone| tombstone.input_hash), Some([4; 16]));
    assert_eq!(journal.history(run_id(4)).unwrap().len(), 2);
}
