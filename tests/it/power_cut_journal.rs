//! Power cuts: a writer on a loop-mounted file system is stopped, the image is copied as the disk would
//! have it (what is only in the page cache is gone), and the copy is opened. Everything acknowledged
//! before the stop must be there. A control with syncing off shows that the rig sees a loss.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use backstitch::journal::sled_store::Sync;
use backstitch::journal::{Change, Journal, Options, SledJournal};
use rustix::process::{Pid, Signal, kill_process};

use crate::counted::count;
use crate::journal_support::*;
use crate::skip::skip;

/// Bytes of a fact by the run's number: 0.3, 3, 30 and 300 KiB, the large ones seldom.
fn fact_bytes(run: u64) -> usize {
    match run % 40 {
        0 => 300 << 10,
        1..4 => 30 << 10,
        4..16 => 3 << 10,
        _ => 300,
    }
}

/// Facts of a run; the last one ends it.
const FACTS: u64 = 4;
/// Runs in flight in the writer.
const IN_FLIGHT: usize = 24;
/// Where the writer writes and whether it syncs.
const CHILD_DIR: &str = "POWER_CUT_CHILD_DIR";
const CHILD_SYNC: &str = "POWER_CUT_CHILD_SYNC";

fn child_options(dir: &Path, sync: Sync) -> Options {
    // Small generations, so that cuts meet their turns.
    Options { generation_bytes: 4 << 20, free_bytes_min: 1 << 20, sync, ..Options::new(dir) }
}

/// The writer: says `ack RUN FACTS` for each commit that was answered. A test of its own, which does
/// something only when it was started for it.
#[test]
fn writer_child() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let sync = if std::env::var(CHILD_SYNC).is_ok() { Sync::Disk } else { Sync::Skipped };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (journal, recovered) = SledJournal::open(child_options(Path::new(&dir), sync)).unwrap();
        if recovered.definitions.is_empty() {
            journal.commit(vec![definition()]).await.unwrap();
        }
        let journal = std::sync::Arc::new(journal);
        let workers = (0..IN_FLIGHT as u64).map(|worker| {
            let journal = journal.clone();
            async move {
                for run in (worker..).step_by(IN_FLIGHT) {
                    for sequence in 0..FACTS {
                        let transition = match sequence {
                            3 => end(run, sequence, 5_000 + run),
                            _ => step(run, sequence, fact_bytes(run)),
                        };
                        journal.commit(vec![Change::Run(transition)]).await.unwrap();
                        // One write each, so that no acknowledgement waits in a buffer of this process.
                        std::io::stdout().write_all(format!("\nack {run} {}\n", sequence + 1).as_bytes()).unwrap();
                    }
                }
            }
        });
        futures_util::future::join_all(workers).await;
    });
}

/// A writer with what it has acknowledged.
struct Writer {
    child: Child,
    acks: mpsc::Receiver<(u64, u64)>,
    acknowledged: BTreeMap<u64, u64>,
}

impl Writer {
    fn start(dir: &Path, sync: Sync) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "power_cut_journal::writer_child", "--nocapture"]).env(CHILD_DIR, dir);
        if sync == Sync::Disk {
            command.env(CHILD_SYNC, "1");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (send, acks) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some((run, facts)) = line.strip_prefix("ack ").and_then(|rest| rest.split_once(' ')) {
                    let _ = send.send((run.parse().unwrap(), facts.parse().unwrap()));
                }
            }
        });
        Self { child, acks, acknowledged: BTreeMap::new() }
    }

    /// Waits until `more` further acknowledgements came, which takes the writer into the thick of it.
    fn work(&mut self, more: usize) {
        for _ in 0..more {
            let (run, facts) = self.acks.recv_timeout(Duration::from_secs(60)).expect("the writer goes on");
            self.acknowledged.insert(run, facts);
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops the process, every thread of it. What it said until now was said before the cut.
    fn stop(&mut self) {
        self.signal(Signal::STOP);
        let threads = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let runs = |thread: std::io::Result<std::fs::DirEntry>| {
            let status = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            status.is_ok_and(|status| !status.contains(") T "))
        };
        while std::fs::read_dir(&threads).unwrap().any(runs) {
            std::thread::yield_now();
        }
        self.drain();
    }

    /// Takes in what is on its way through the pipe; an acknowledgement that is missed makes the check
    /// weaker, never wrong.
    fn drain(&mut self) {
        while let Ok((run, facts)) = self.acks.recv_timeout(Duration::from_millis(20)) {
            self.acknowledged.insert(run, facts);
        }
    }

    fn kill(mut self) -> BTreeMap<u64, u64> {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
        self.drain();
        self.acknowledged
    }
}

/// Says what is missing of what was acknowledged, if anything.
fn check(dir: &Path, sync: Sync, acknowledged: &BTreeMap<u64, u64>) -> Result<(), String> {
    let (journal, recovered) =
        SledJournal::open(child_options(dir, sync)).map_err(|error| format!("refused to open: {error}"))?;
    let open: BTreeMap<_, _> = recovered.runs.iter().map(|open| (open.run, open.facts.len() as u64)).collect();
    for (run, facts) in acknowledged {
        let id = run_id(*run);
        let history = journal.history(id).map_err(|error| format!("run {run}: {error}"))?;
        if (history.len() as u64) < *facts {
            return Err(format!("run {run}: {} facts are there, {facts} were acknowledged", history.len()));
        }
        for (sequence, (_, found)) in (0..).zip(&history) {
            let bytes = if sequence == 3 { 50 } else { fact_bytes(*run) };
            if *found != fact(*run, sequence, bytes) {
                return Err(format!("run {run}: fact {sequence} is not what was written"));
            }
        }
        let ended = history.len() as u64 == FACTS;
        let summary = journal.summary(id).map_err(|error| format!("run {run}: {error}"))?;
        if ended != summary.is_some() || ended == open.contains_key(&id) {
            return Err(format!("run {run}: ended and open at once, or neither"));
        }
    }
    for generation in std::fs::read_dir(dir.join("generations")).map_err(|error| error.to_string())? {
        let blobs = generation.map_err(|error| error.to_string())?.path().join("blobs");
        if std::fs::read_dir(&blobs).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(format!("{} is not empty", blobs.display()));
        }
    }
    Ok(())
}

/// A file system in a file, mounted; unmounted when dropped.
pub struct Image {
    file: PathBuf,
    pub mount: PathBuf,
}

impl Image {
    pub fn make(dir: &Path) -> Result<Self, String> {
        let image = Self { file: dir.join("image"), mount: dir.join("mount") };
        let file = image.file.to_str().unwrap();
        tool("truncate", &["-s", "1G", file])?;
        tool("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=1", file])?;
        image.mount()?;
        tool("sync", &["-f", image.mount.to_str().unwrap()])?;
        Ok(image)
    }

    fn mount(&self) -> Result<(), String> {
        std::fs::create_dir_all(&self.mount).map_err(|error| error.to_string())?;
        tool("mount", &["-o", "loop", self.file.to_str().unwrap(), self.mount.to_str().unwrap()])
    }

    /// What a disk would hold if power went away at this moment.
    pub fn cut(&self, dir: &Path) -> Result<Self, String> {
        let copy = Self { file: dir.join("cut-image"), mount: dir.join("cut-mount") };
        tool("cp", &["--sparse=always", self.file.to_str().unwrap(), copy.file.to_str().unwrap()])?;
        copy.mount()?;
        Ok(copy)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = tool("umount", &[self.mount.to_str().unwrap()]);
    }
}

/// Returns how many writers there are: as many as make `POWER_CUTS=N` cuts with those of NATS' store.
pub fn rounds(ordinary: usize) -> usize {
    std::env::var("POWER_CUTS").map_or(ordinary, |cuts| cuts.parse::<usize>().unwrap().div_ceil(10).max(1))
}

/// Runs `rounds` writers, each with a cut at its very beginning and `cuts` in the thick of it; returns
/// what each cut showed.
fn cuts(sync: Sync, rounds: usize, cuts: usize) -> Option<Vec<Result<usize, String>>> {
    let dir = tempfile::tempdir().unwrap();
    let image = match Image::make(dir.path()) {
        Ok(image) => image,
        Err(reason) => {
            skip("power cuts of the journal", &format!("no loop-mounted file system can be made here: {reason}"));
            return None;
        }
    };
    let mut results = Vec::new();
    for round in 0..rounds {
        let name = format!("journal-{round}");
        let mut writer = Writer::start(&image.mount.join(&name), sync);
        for cut in 0..=cuts {
            // Soon after the start, then after a number of commits that differs from cut to cut.
            writer.work(if cut == 0 { 1 + round } else { 300 + 137 * cut + 61 * round });
            writer.stop();
            let acknowledged = writer.acknowledged.clone();
            let copy = image.cut(dir.path()).unwrap();
            results.push(check(&copy.mount.join(&name), sync, &acknowledged).map(|()| acknowledged.len()));
            drop(copy);
            writer.signal(Signal::CONT);
        }
        writer.kill();
    }
    Some(results)
}

#[test]
fn power_cuts_lose_nothing_acknowledged() {
    let Some(results) = cuts(Sync::Disk, rounds(4), 4) else { return };
    let lost: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    let runs: usize = results.iter().filter_map(|result| result.as_ref().ok()).sum();
    count(&format!(
        "{} power cuts, {runs} acknowledged runs looked at, {} cuts with a loss",
        results.len(),
        lost.len()
    ));
    assert!(results.len() >= 5);
    assert!(lost.is_empty(), "{lost:#?}");
}

/// The rig must be able to see a loss, or the test above would prove nothing.
#[test]
fn without_syncing_power_cuts_are_seen_to_lose() {
    let Some(results) = cuts(Sync::Skipped, 2, 2) else { return };
    let lost: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    count(&format!("control without syncing: {} of {} cuts show a loss: {lost:?}", lost.len(), results.len()));
    assert!(!lost.is_empty(), "no cut showed a loss: the rig proves nothing here");
}

#[test]
fn kill_9_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    for kill in 0..6 {
        let path = dir.path().join(format!("journal-{kill}"));
        let mut writer = Writer::start(&path, Sync::Disk);
        writer.work(1 + 150 * kill);
        let acknowledged = writer.kill();
        check(&path, Sync::Disk, &acknowledged).unwrap();
    }
}
