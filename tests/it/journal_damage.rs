//! Damaged journals: each file is hurt in every way we could think of, on a copy, and the copy is opened
//! in a process of its own. It must come up with everything that was acknowledged, or refuse (or answer
//! a look-up with an error) in one line that names the file: never less, silently, and never a panic.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use backstitch::journal::{Change, Journal, SledJournal};

use crate::counted::count;
use crate::journal_support::*;

const CHILD_DIR: &str = "JOURNAL_DAMAGE_CHILD_DIR";
/// Runs that stay open, with two facts each.
const OPEN: std::ops::Range<u64> = 100_000..100_020;
/// Finished runs, spread over the generations.
const FINISHED: std::ops::Range<u64> = 0..220;

fn fact_bytes(run: u64) -> usize {
    if run.is_multiple_of(7) { 9_000 } else { 700 }
}

/// Makes a journal of some sealed generations and a live one, closed in good order.
async fn make(dir: &Path) {
    let (journal, _) = open(dir);
    journal.commit(vec![definition()]).await.unwrap();
    for run in OPEN {
        commit(&journal, step(run, 0, 300)).await;
        commit(&journal, step(run, 1, 300)).await;
    }
    drop(journal);
    // Opened again for each part, which seals what the part before left.
    for part in 0..4 {
        let (journal, _) = open(dir);
        for run in FINISHED.filter(|run| run % 4 == part) {
            commit(&journal, step(run, 0, fact_bytes(run))).await;
            commit(&journal, end(run, 1, 10_000 + run)).await;
        }
        assert!(journal.stats().generation > part, "part {part} ends in generation {}", journal.stats().generation);
        journal.close().await.unwrap();
    }
}

/// Opens and looks at everything; says what it found in one line that begins with a word.
fn look(dir: &Path) -> String {
    let (journal, recovered) = match SledJournal::open_at(options(dir), Arc::new(Moved::at(20_000))) {
        Ok(opened) => opened,
        Err(error) => return format!("REFUSED {error}"),
    };
    let open: BTreeMap<_, _> = recovered.runs.iter().map(|open| (open.run, open)).collect();
    for run in OPEN {
        let facts = open.get(&run_id(run)).map(|open| open.facts.len()).unwrap_or_default();
        if facts != 2 {
            return format!("LOST open run {run} has {facts} facts");
        }
    }
    let mut told = None;
    for run in FINISHED {
        let id = run_id(run);
        match (journal.history(id), journal.summary(id), journal.tombstone(id)) {
            (Ok(history), Ok(summary), Ok(tombstone)) => {
                let whole = history.len() == 2 && history[0].1 == fact(run, 0, fact_bytes(run));
                if !whole || summary.is_none() || tombstone.is_none() {
                    return format!("LOST run {run}: {} facts, {summary:?}, {tombstone:?}", history.len());
                }
            }
            (history, summary, tombstone) => {
                let error = history.err().or(summary.err()).or(tombstone.err());
                told = error.map(|error| format!("TOLD {error}"));
            }
        }
    }
    // Whatever a look-up met, work goes on.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = 200_000 + 10 * recovered.runs.len() as u64; // new ones, also where an earlier look left some
    for run in first..first + 3 {
        if let Err(error) = runtime.block_on(journal.commit(vec![Change::Run(step(run, 0, 300_000))])) {
            return format!("BROKEN {error}");
        }
    }
    told.unwrap_or_else(|| "WHOLE".to_owned())
}

/// The process that opens: a test of its own, which does something only when it was started for it.
#[test]
fn opening_child() {
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        println!("\nfound: {}", look(Path::new(&dir)));
    }
}

/// Opens in a process of its own; returns what it found and what it printed on stderr.
fn open_apart(dir: &Path) -> (String, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "journal_damage::opening_child", "--nocapture"]).env(CHILD_DIR, dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (send, printed) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut text, mut errors) = (String::new(), String::new());
        out.read_to_string(&mut text).unwrap();
        err.read_to_string(&mut errors).unwrap();
        let _ = send.send((text, errors));
    });
    // Both pipes end with the process.
    let printed = printed.recv_timeout(Duration::from_secs(60));
    if printed.is_err() {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    let (out, err) = printed.unwrap_or_default();
    let found = out.lines().find_map(|line| line.strip_prefix("found: ")).unwrap_or("DIED or hung").to_owned();
    (found, err)
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The ways to hurt one file.
#[derive(Debug, Clone, Copy)]
enum Hurt {
    Flip(u64),
    Zero(u64),
    Cut(u64),
    Remove,
    /// The page from here is overwritten with the one before it, as a disk that mixes up addresses does.
    Misplaced(u64),
    /// Bytes of another file behind the end.
    Longer,
    /// A snapshot that sled did not finish, beside this file.
    LeftOver,
}

/// Stores that are mutated in all; more with `DAMAGED_STORES=…`.
const STORES: usize = 1_000;
/// Two cores: one opens while the other copies.
const WORKERS: usize = 2;

fn hurt(path: &Path, how: Hurt) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    match how {
        Hurt::Flip(at) => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        }
        Hurt::Zero(at) => {
            let length = file.metadata().unwrap().len().saturating_sub(at).min(4_096);
            file.write_all_at(&vec![0; length as usize], at).unwrap();
        }
        Hurt::Cut(length) => file.set_len(length).unwrap(),
        Hurt::Remove => fs::remove_file(path).unwrap(),
        Hurt::Misplaced(at) => {
            let mut page = vec![0; 4_096];
            let count = file.read_at(&mut page, at.saturating_sub(4_096)).unwrap();
            let room = file.metadata().unwrap().len().saturating_sub(at);
            file.write_all_at(&page[..count.min(usize::try_from(room).unwrap())], at).unwrap();
        }
        Hurt::Longer => {
            let length = file.metadata().unwrap().len();
            file.write_all_at(&[0x5a; 700], length).unwrap();
        }
        Hurt::LeftOver => fs::write(path.with_file_name("snap.00000000000004FF.generating"), b"half").unwrap(),
    }
}

/// A handful of each, spread over a file of that length.
fn ways(length: u64) -> Vec<Hurt> {
    let mut ways = vec![Hurt::Remove, Hurt::Cut(0)];
    if length > 0 {
        ways.extend([Hurt::Cut(length - 1), Hurt::Cut(length / 2), Hurt::Flip(0), Hurt::Flip(length - 1)]);
        // Prime steps: fields of every kind are hit.
        ways.extend((1..5).map(|part| Hurt::Flip(length * part / 5 / 7 * 7)));
        ways.extend((0..3).map(|part| Hurt::Zero(length * part / 3 / 4_096 * 4_096)));
    }
    ways
}

/// A file and a way to hurt it, drawn by a generator of its own: the same stores in every run.
fn draw(files: &[(PathBuf, u64)], seed: &mut u64) -> (PathBuf, Hurt) {
    let mut below = |bound: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % bound.max(1)
    };
    let (name, length) = &files[usize::try_from(below(files.len() as u64)).unwrap()];
    let how = match below(20) {
        0..8 => Hurt::Flip(below(*length)),
        8..12 => Hurt::Zero(below(*length) / 4_096 * 4_096),
        12..16 => Hurt::Cut(below(*length)),
        16 | 17 => Hurt::Misplaced(below(*length) / 4_096 * 4_096),
        18 => Hurt::Longer,
        _ => Hurt::LeftOver,
    };
    // An empty file has no byte to flip.
    (name.clone(), if *length == 0 { Hurt::Longer } else { how })
}

fn check(results: &mut BTreeMap<&'static str, usize>, what: &str, dir: &Path) {
    let (found, err) = open_apart(dir);
    let word = ["WHOLE", "TOLD", "REFUSED"].into_iter().find(|word| found.starts_with(word));
    let word = word.unwrap_or_else(|| panic!("{what}: {found}\n{err}"));
    assert!(!err.contains("panicked"), "{what}: a panic's text was shown: {err}");
    if word != "WHOLE" {
        assert!(found.contains(dir.to_str().unwrap()), "{what}: the message names no file: {found}");
        assert_eq!(found.lines().count(), 1, "{what}: {found}");
    }
    *results.entry(word).or_default() += 1;
}

#[tokio::test]
async fn no_damage_loses_anything_silently() {
    // In memory where that is possible: hundreds of copies, and nothing here is about syncing.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let whole = dir.path().join("whole");
    make(&whole).await;
    // Once more, so that the generations before the last are sealed and sled has left its snapshots.
    assert_eq!(open_apart(&whole).0, "WHOLE");
    let live = fs::read_dir(whole.join("generations")).unwrap().count();
    let mut damage = Vec::new();
    for path in files(&whole) {
        let name = path.strip_prefix(&whole).unwrap().to_owned();
        // The first and the last sealed generation stand for those between them.
        let between = (2..live - 1).any(|number| name.starts_with(format!("generations/{number:08}")));
        if name != Path::new("lock") && !between {
            damage.extend(ways(fs::metadata(&path).unwrap().len()).into_iter().map(|how| (name.clone(), how)));
        }
    }
    let kinds = damage.len();
    let lengths: Vec<(PathBuf, u64)> = files(&whole)
        .into_iter()
        .map(|path| (path.strip_prefix(&whole).unwrap().to_owned(), fs::metadata(&path).unwrap().len()))
        .filter(|(name, _)| name != Path::new("lock"))
        .collect();
    let stores = std::env::var("DAMAGED_STORES").map_or(STORES, |stores| stores.parse().unwrap());
    let mut seed = 3;
    while damage.len() < stores {
        damage.push(draw(&lengths, &mut seed));
    }
    let results = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (damage, whole, hurt_dir) = (&damage, &whole, dir.path().join(format!("hurt-{worker}")));
                scope.spawn(move || {
                    let mut results = BTreeMap::new();
                    for (name, how) in damage.iter().skip(worker).step_by(WORKERS) {
                        copy_tree(whole, &hurt_dir);
                        hurt(&hurt_dir.join(name), *how);
                        check(&mut results, &format!("{} {how:?}", name.display()), &hurt_dir);
                        fs::remove_dir_all(&hurt_dir).unwrap();
                    }
                    results
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).fold(BTreeMap::new(), |mut sum, results| {
            results.into_iter().for_each(|(word, count)| *sum.entry(word).or_default() += count);
            sum
        })
    });
    count(&format!("{} damaged stores, {kinds} of them by hand: {results:?}", results.values().sum::<usize>()));
    assert!(results["WHOLE"] > 10 && results["REFUSED"] > 10, "{results:?}");
}

#[tokio::test]
async fn an_older_copy_beside_the_present_head_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (now, old) = (dir.path().join("now"), dir.path().join("old"));
    let (journal, _) = open(&now);
    journal.commit(vec![definition()]).await.unwrap();
    commit(&journal, step(1, 0, 100)).await;
    drop(journal);
    copy_tree(&now, &old);
    let (journal, _) = open(&now);
    commit(&journal, step(1, 1, 100)).await;
    drop(journal);
    let generation = Path::new("generations/00000001");
    fs::remove_dir_all(now.join(generation)).unwrap();
    copy_tree(&old.join(generation), &now.join(generation));
    let message = SledJournal::open(options(&now)).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("ends at commit 3, but HEAD says commit 4 was acknowledged"), "{message}");
    assert!(message.contains("journal restore"), "it says what to do: {message}");
}

#[tokio::test]
async fn left_over_and_broken_snapshots_cost_nothing() {
    let rows: &[(&str, &str, &[u8])] = &[
        ("half-written", "snap.0000000000000400.generating", b"half"),
        ("garbage, newest by name", "snap.FFFFFFFFFFFFFFFF", b"this is no snapshot of sled's"),
        ("empty, newest by name", "snap.FFFFFFFFFFFFFFFE", b""),
    ];
    for (why, name, content) in rows {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = open(dir.path());
        journal.commit(vec![definition(), Change::Run(step(1, 0, 5_000))]).await.unwrap();
        drop(journal);
        let store = dir.path().join("generations/00000001");
        fs::write(store.join(name), content).unwrap();
        let (found, err) = {
            let (journal, recovered) = open(dir.path());
            check_facts(&recovered, 1, 1, 5_000);
            drop(journal);
            (recovered.notes.join("\n"), String::new())
        };
        assert!(found.contains("generations/00000001"), "{why}: what was repaired is said: {found}{err}");
    }
}

#[tokio::test]
async fn a_blob_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let blob = dir.path().join("generations/00000001/blobs/77");
    fs::write(&blob, b"x").unwrap();
    let message = SledJournal::open(options(dir.path())).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains(blob.to_str().unwrap()), "{message}");
}
