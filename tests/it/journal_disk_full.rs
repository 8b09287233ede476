//! A full disk: intake stops before it, a commit that might not fit waits, nothing acknowledged is lost,
//! and work goes on when there is room again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstitch::journal::{Change, Journal, Options, SledJournal};
use tokio::time::timeout;

use crate::journal_support::*;
use crate::skip::skip;

/// A small file system in memory; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path) -> Option<Self> {
        match tool("mount", &["-t", "tmpfs", "-o", "size=32m", "none", dir.to_str().unwrap()]) {
            Ok(()) => Some(Self(dir.to_owned())),
            Err(reason) => {
                skip("the journal on a full disk", &format!("no small file system can be mounted here: {reason}"));
                None
            }
        }
    }

    /// Writes until not a byte is left, as another program would.
    fn fill(&self) {
        use std::io::Write;
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[1; 4_096]).is_ok() {}
    }

    fn give_back(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = tool("umount", &[self.0.to_str().unwrap()]);
    }
}

/// Long enough for any commit that is not held.
const LONG: Duration = Duration::from_secs(20);
/// A commit that takes this long on a file system in memory is held.
const HELD: Duration = Duration::from_millis(700);

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_full_disk_stops_intake_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path()) else { return };
    let path = dir.path().join("journal");
    let options = || Options { generation_bytes: 1 << 30, ..Options::new(&path) };
    let (journal, _) = SledJournal::open(options()).unwrap();
    journal.commit(vec![definition()]).await.unwrap();
    assert!(journal.accepts_work(), "a tenth of a small disk is reserve enough");

    // Filled by ourselves, with payloads of every size. Runs go on a while after intake has stopped.
    let mut runs = 0;
    while journal.accepts_work() {
        commit(&journal, step(runs, 0, [300, 3_000, 30_000, 300_000][runs as usize % 4])).await;
        runs += 1;
        assert!(runs < 10_000, "the disk never got full");
    }
    commit(&journal, step(runs, 0, 300)).await;
    runs += 1;

    // Filled to the last byte by somebody else: what is committed now waits.
    disk.fill();
    let mut held = journal.commit(vec![Change::Run(step(runs, 0, 3_000))]);
    assert!(timeout(HELD, &mut held).await.is_err(), "a commit that does not fit is held, neither done nor failed");
    assert!(!journal.accepts_work());
    disk.give_back();
    timeout(LONG, held).await.expect("it is done when there is room").unwrap();
    runs += 1;

    // Closing does not wait for room for ever.
    disk.fill();
    let mut refused = journal.commit(vec![Change::Run(step(runs, 0, 3_000))]);
    assert!(timeout(HELD, &mut refused).await.is_err());
    let closed = timeout(LONG, journal.close()).await.expect("closing ends");
    assert!(closed.is_err() && refused.await.is_err(), "what was not stored is not acknowledged");
    drop(journal);
    disk.give_back();

    let (journal, recovered) = SledJournal::open(options()).unwrap();
    assert_eq!(recovered.runs.len() as u64, runs);
    for run in 0..runs - 2 {
        check_facts(&recovered, run, 1, [300, 3_000, 30_000, 300_000][run as usize % 4]);
    }
    drop(journal);
    fs::remove_dir_all(&path).unwrap();
    let (journal, _) = SledJournal::open(options()).unwrap();
    until("work is taken again", || journal.accepts_work()).await;
}
