//! Opens a journal: lock, HEAD, the generations that are needed, repairs. Ends with everything that was
//! acknowledged, or with an error that names the file and what to do; never with less, silently.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::Options;
use super::fold::{Fold, Folded};
use super::head::{Head, HeadState};
use super::ledger::Ledger;
use super::lock::DirectoryLock;
use super::pack::{self, CommitHeader};
use super::store::{Store, Sync, check_files, move_aside, remove_half_snapshots, sync_path};
use crate::journal::inbox::Inbox;
use crate::journal::record::{self, GenerationStart, Record};
use crate::journal::{Error, Recovered};
use crate::time::Timestamp;

/// A journal as opened.
pub struct Opened {
    pub lock: DirectoryLock,
    pub head: Head,
    pub state: HeadState,
    pub store: Arc<Store>,
    pub folded: Folded,
    pub ledger: Ledger,
    pub inbox: Inbox,
    pub recovered: Recovered,
}

/// Returns a generation's directory.
pub fn generation_dir(path: &Path, number: u64) -> PathBuf {
    path.join("generations").join(format!("{number:08}"))
}

/// Opens the journal, or makes it where there is none.
///
/// # Errors
/// [`Error`] says which file is in the way and what to do.
pub fn open(options: &Options, now: Timestamp) -> Result<Opened, Error> {
    let started = Instant::now();
    let path = &options.path;
    make_dirs(path, options.sync)?;
    let lock = DirectoryLock::take(path)?;
    let mut notes = Vec::new();
    let (mut head, mut state) = open_head(path, options.sync, &mut notes)?;

    if state.commit == 0 {
        // The making of the first generation was cut off before anything could be acknowledged.
        set_aside(path, state.generation, &mut notes)?;
        let store = create_generation(path, &state, options.sync, now, vec![Record::CarryDone])?;
        drop(store);
        state.commit = 1;
        head.write_both(&state)?;
    }
    let journal = pack::journal_mark(state.journal);
    let dir = generation_dir(path, state.generation);
    let read = |store: &Store| {
        let mut fold = Fold::new(Inbox::new(options.inbox_window, options.inbox_max));
        let folded = fold.generation(store, state.generation, journal)?;
        check_start(store, &folded, &state)?;
        let (ledger, inbox, recovered) = fold.finish(store)?;
        Ok((folded, ledger, inbox, recovered))
    };
    let (store, (folded, ledger, inbox, mut recovered)) = with_repair(&dir, options.sync, &mut notes, read)?;
    state.commit = folded.last_commit;
    notes.push(format!(
        "journal {}: generation {}, commit {}, {} records read, {} runs open, {} events to publish, {} ms",
        path.display(),
        state.generation,
        state.commit,
        folded.records,
        recovered.runs.len(),
        recovered.outbox.len(),
        started.elapsed().as_millis()
    ));
    recovered.notes = notes;
    Ok(Opened { lock, head, state, store: Arc::new(store), folded, ledger, inbox, recovered })
}

fn make_dirs(path: &Path, sync: Sync) -> Result<(), Error> {
    let generations = path.join("generations");
    if generations.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(&generations).map_err(|error| Error::io("create", &generations, &error))?;
    if sync == Sync::Disk {
        sync_path(path)?;
        // Every directory above may be new too; syncing those that are not costs nothing worth naming.
        let full = fs::canonicalize(path).map_err(|error| Error::io("read", path, &error))?;
        for above in full.ancestors().skip(1).take(3) {
            sync_path(above)?;
        }
    }
    Ok(())
}

fn open_head(path: &Path, sync: Sync, notes: &mut Vec<String>) -> Result<(Head, HeadState), Error> {
    let file = path.join("HEAD");
    if file.exists() {
        let (head, state, torn) = Head::open(&file, sync)?;
        if torn {
            notes.push(format!("{}: one of two slots could not be read; the other was used", file.display()));
        }
        return Ok((head, state));
    }
    let generations = path.join("generations");
    let mut entries = fs::read_dir(&generations).map_err(|error| Error::io("read", &generations, &error))?;
    if entries.next().is_some() {
        return Err(Error::damaged(&file, "it is missing, though generations of a journal are there"));
    }
    let state = HeadState { journal: Uuid::now_v7(), oldest: 1, generation: 1, commit: 0 };
    Ok((Head::create(&file, &state, sync)?, state))
}

/// Moves a directory that holds nothing acknowledged out of the way.
fn set_aside(path: &Path, generation: u64, notes: &mut Vec<String>) -> Result<(), Error> {
    let dir = generation_dir(path, generation);
    if !dir.exists() {
        return Ok(());
    }
    let aside = path.join(format!("unfinished-{generation:08}-{}", Uuid::now_v7().simple()));
    fs::rename(&dir, &aside).map_err(|error| Error::io("rename", &dir, &error))?;
    notes.push(format!("{}: its making had been cut off; moved to {}", dir.display(), aside.display()));
    Ok(())
}

/// Makes the store of a new generation with its first commit, durable.
pub fn create_generation(
    path: &Path,
    state: &HeadState,
    sync: Sync,
    now: Timestamp,
    more: Vec<Record>,
) -> Result<Store, Error> {
    let store = Store::create(&generation_dir(path, state.generation), sync)?;
    let start = GenerationStart {
        journal: state.journal,
        generation: state.generation,
        made_by: concat!("backstitch ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let mut stream = Vec::new();
    pack::begin(&mut stream);
    record::put_record(&mut stream, &Record::Generation(start));
    more.iter().for_each(|record| record::put_record(&mut stream, record));
    let header = CommitHeader {
        journal: pack::journal_mark(state.journal),
        generation: state.generation,
        commit: state.commit + 1,
        at: now,
        records: 1 + u32::try_from(more.len()).unwrap_or(u32::MAX),
    };
    pack::finish(&mut stream, &header);
    store.append(header.commit, &stream)?;
    Ok(store)
}

/// Checks that a generation begins as it must and reaches what HEAD says.
fn check_start(store: &Store, folded: &Folded, state: &HeadState) -> Result<(), Error> {
    match &folded.start {
        Some(start) if start.journal == state.journal && start.generation == state.generation => {}
        Some(_) => return Err(Error::damaged(store.dir(), "it belongs to another journal or generation")),
        None => return Err(Error::damaged(store.dir(), "its first commit is missing")),
    }
    if folded.last_commit < state.commit {
        return Err(Error::BehindHead { path: store.dir().to_owned(), found: folded.last_commit, head: state.commit });
    }
    Ok(())
}

/// Opens and reads a store; where that fails, once more without what sled can make again.
fn with_repair<T>(
    dir: &Path,
    sync: Sync,
    notes: &mut Vec<String>,
    mut read: impl FnMut(&Store) -> Result<T, Error>,
) -> Result<(Store, T), Error> {
    check_files(dir)?;
    for name in remove_half_snapshots(dir)? {
        notes.push(format!("{}: removed {name}, a snapshot whose writing had been cut off", dir.display()));
    }
    let mut attempt = || {
        let store = Store::open(dir, sync)?;
        let value = read(&store)?;
        Ok((store, value))
    };
    let first: Result<(Store, T), Error> = attempt();
    let error = match first {
        Ok((store, value)) => {
            check_files(dir)?;
            return Ok((store, value));
        }
        Err(error) => error,
    };
    let moved = move_aside(dir)?;
    if moved.is_empty() {
        return Err(error);
    }
    // The error of the first reading is the one that says what happened.
    let (store, value) = attempt().map_err(|_| error.clone())?;
    store.sync_names()?;
    notes.push(format!(
        "{}: {error}; moved {} aside, read all of it again, and every checksum is right",
        dir.display(),
        moved.join(", ")
    ));
    Ok((store, value))
}
