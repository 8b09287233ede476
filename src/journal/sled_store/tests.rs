//! What can only be tried from inside: a disk that refuses to sync, and a journal cut off at each point
//! of a turn.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::head::Head;
use super::open::{create_generation, generation_dir, open};
use super::store::Sync;
use super::{Options, SledJournal, SystemClock};
use crate::id::{Fingerprint, RunId};
use crate::journal::{Change, Error, Journal, Recovered, Transition};
use crate::time::Timestamp;

fn step(run: u128, sequence: u64, bytes: usize) -> Vec<Change> {
    vec![Change::Run(Transition {
        run: RunId(Uuid::from_u128(run)),
        sequence,
        epoch: 1,
        at: Timestamp(sequence),
        facts: vec![Bytes::from(vec![sequence as u8; bytes])],
        definition: (sequence == 0).then_some(Fingerprint([7; 32])),
        outbox: Vec::new(),
        inbox: None,
        ended: None,
    })]
}

fn facts(recovered: &Recovered) -> Vec<usize> {
    recovered.runs.iter().map(|open| open.facts.len()).collect()
}

#[tokio::test]
async fn a_failed_sync_ends_everything() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(dir.path());
    let (journal, _) = SledJournal::open(options.clone()).unwrap();
    journal.commit(step(1, 0, 10)).await.unwrap();
    drop(journal);

    let mut opened = open(&options, Timestamp(0)).unwrap();
    Arc::get_mut(&mut opened.view.live.store).unwrap().break_sync();
    let (journal, _) = SledJournal::start(options.clone(), Arc::new(SystemClock), opened).unwrap();
    let (one, two) = (journal.commit(step(1, 1, 10)), journal.commit(step(2, 0, 10)));
    for commit in [one, two, journal.commit(step(3, 0, 10))] {
        let error = commit.await.map(|_| ()).unwrap_err();
        assert!(matches!(&error, Error::Stopped { .. }) && error.to_string().contains("a sync failed"), "{error}");
    }
    assert!(journal.close().await.is_err(), "closing does not hide it");
    drop(journal);
    let (_, recovered) = SledJournal::open(options).unwrap();
    assert!(facts(&recovered)[0] >= 1, "what was acknowledged is there; what was not may be");
}

/// Makes a journal with three open runs whose first generation is due for a turn, at rest.
async fn due_for_a_turn(path: &Path) {
    let (journal, _) = SledJournal::open(Options::new(path)).unwrap();
    for run in 1..4 {
        for sequence in 0..3 {
            journal.commit(step(run, sequence, 100_000)).await.unwrap();
        }
    }
    journal.close().await.unwrap();
}

#[tokio::test]
async fn a_turn_may_be_cut_off_anywhere() {
    type Cut = fn(&Path);
    let rows: [(&str, Cut); 4] = [
        ("an empty directory", |path| std::fs::create_dir(generation_dir(path, 2)).unwrap()),
        ("half of a new store", |path| {
            std::fs::create_dir_all(generation_dir(path, 2).join("blobs")).unwrap();
            std::fs::write(generation_dir(path, 2).join("db"), [0; 700]).unwrap();
        }),
        ("a new store that HEAD does not name", |path| make_next(path, false)),
        ("a new store that HEAD names, with nothing carried", |path| make_next(path, true)),
    ];
    for (why, cut) in rows {
        let dir = tempfile::tempdir().unwrap();
        due_for_a_turn(dir.path()).await;
        cut(dir.path());
        // The next start, killed again and again while it carries: it must come out of that too.
        for sequence in 3..6 {
            let small = Options { generation_bytes: 300_000, ..Options::new(dir.path()) };
            let (journal, recovered) = SledJournal::open(small).unwrap_or_else(|error| panic!("{why}: {error}"));
            assert_eq!(facts(&recovered), [sequence as usize; 3], "{why}");
            for run in 1..4 {
                journal.commit(step(run, sequence, 100_000)).await.unwrap();
                assert_eq!(journal.history(RunId(Uuid::from_u128(run))).unwrap().len() as u64, sequence + 1, "{why}");
            }
        }
    }
}

/// Begins generation 2 as a turn does.
fn make_next(path: &Path, named: bool) {
    let options = Options::new(path);
    let opened = open(&options, Timestamp(0)).unwrap();
    let mut state = opened.state;
    drop(opened);
    state.generation += 1;
    drop(create_generation(path, &state, Sync::Disk, Timestamp(0), Vec::new()).unwrap());
    if named {
        state.commit += 1;
        let (mut head, _, _) = Head::open(&path.join("HEAD")).unwrap();
        head.write_both(&state).unwrap();
    }
}
