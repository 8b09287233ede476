//! Opens a journal: lock, HEAD, the generations that are needed, repairs. Ends with everything that was
//! acknowledged, or with an error that names the file and what to do; never with less, silently.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::Options;
use super::fold::{Fold, Folded};
use super::head::{Head, HeadState};
use super::janitor::{REMOVED_PREFIX, keys_dir, remove};
use super::keys::{Bounds, Keys};
use super::ledger::Ledger;
use super::lock::DirectoryLock;
use super::pack::{self, CommitHeader};
use super::repair::with_repair;
use super::sealed::{Sealed, index_of};
use super::shared::{Generation, View};
use super::store::{Store, Sync, sync_path};
use crate::journal::inbox::Inbox;
use crate::journal::record::{self, GenerationStart, Record};
use crate::journal::{Error, Recovered};
use crate::planted;
use crate::time::Timestamp;

/// A journal as opened.
pub struct Opened {
    pub lock: DirectoryLock,
    pub head: Head,
    pub state: HeadState,
    /// Bytes of the commits in the live generation.
    pub live_bytes: u64,
    pub view: View,
    pub ledger: Ledger,
    pub recovered: Recovered,
}

/// What the generations that are needed gave.
struct Needed {
    live: (Store, Folded),
    previous: Option<(Store, Folded)>,
    ledger: Ledger,
    inbox: Inbox,
    recovered: Recovered,
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
    make_dirs(path)?;
    let lock = DirectoryLock::take(path)?;
    let mut notes = Vec::new();
    let (mut head, mut state) = open_head(path, &mut notes)?;
    remove_given_up(path)?;
    if state.commit == 0 {
        // The making of the first generation was cut off before anything could be acknowledged.
        set_aside(path, state.generation, &mut notes)?;
        drop(create_generation(path, &state, options.sync, now, vec![Record::CarryDone])?);
        state.commit = 1;
        head.write_both(&state)?;
    }
    adopt_next(options, &mut state, &mut notes)?;
    if let Some(missing) =
        (state.oldest..=state.generation).map(|number| generation_dir(path, number)).find(|dir| !dir.is_dir())
    {
        return Err(Error::damaged(&missing, "this generation of the journal is missing"));
    }

    let Needed { live, previous, ledger, inbox, mut recovered } = read_needed(options, &state, &mut notes)?;
    let ((store, folded), records) = (live, previous.as_ref().map_or(0, |(_, folded)| folded.records));
    let last_sealed = state.generation - if previous.is_some() { 2 } else { 1 };
    let (sealed, keys) = open_sealed(options, state.oldest..=last_sealed, now, &mut notes)?;
    store.sync_found()?;
    state.commit = folded.last_commit;
    head.write_both(&state)?;
    notes.push(format!(
        "journal {}: generation {}, commit {}, {} records read, {} runs open, {} events to publish, {} ms",
        path.display(),
        state.generation,
        state.commit,
        folded.records + records,
        recovered.runs.len(),
        recovered.outbox.len(),
        started.elapsed().as_millis()
    ));
    recovered.notes = notes;
    let generation = |number, (store, folded): (Store, Folded)| Generation {
        number,
        store: Arc::new(store),
        index: folded.index,
        at: folded.last_at,
    };
    let (live_bytes, live) = (folded.bytes, generation(state.generation, (store, folded)));
    let previous = previous.map(|previous| Arc::new(generation(state.generation - 1, previous)));
    let view = View { inbox, live, previous, sealed, keys: Arc::new(keys) };
    Ok(Opened { lock, head, state, live_bytes, view, ledger, recovered })
}

/// Reads the present generation, and the one before where it is still needed.
fn read_needed(options: &Options, state: &HeadState, notes: &mut Vec<String>) -> Result<Needed, Error> {
    let journal = pack::journal_mark(state.journal);
    let dir = generation_dir(&options.path, state.generation);
    let fold = || Fold::new(Inbox::new(options.inbox_window, options.inbox_max));
    let read_live = |fold: &mut Fold, store: &Store| {
        let folded = fold.generation(store, state.generation, journal)?;
        check_start(store, &folded, state)?;
        Ok(folded)
    };
    let (store, (folded, alone)) = with_repair(&dir, options.sync, notes, |store| {
        let mut fold = fold();
        let folded = read_live(&mut fold, store)?;
        // A generation that still needs the one before is not whole by itself.
        let alone = if folded.carry_done { Some(fold.finish(store)?) } else { None };
        Ok((folded, alone))
    })?;
    if let Some((ledger, inbox, recovered)) = alone {
        return Ok(Needed { live: (store, folded), previous: None, ledger, inbox, recovered });
    }
    let (number, first) = (state.generation - 1, folded.first_commit);
    let before = generation_dir(&options.path, number);
    let (before, (mut fold, before_folded)) = with_repair(&before, options.sync, notes, |store| {
        let mut fold = fold();
        let folded = fold.generation(store, number, journal)?;
        if folded.last_commit + 1 != first {
            return Err(Error::BehindHead {
                path: store.dir().to_owned(),
                found: folded.last_commit,
                head: state.commit,
            });
        }
        Ok((fold, folded))
    })?;
    let folded = read_live(&mut fold, &store)?;
    let (ledger, inbox, recovered) = fold.finish(&store)?;
    Ok(Needed { live: (store, folded), previous: Some((before, before_folded)), ledger, inbox, recovered })
}

fn make_dirs(path: &Path) -> Result<(), Error> {
    let generations = path.join("generations");
    if generations.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(&generations).map_err(|error| Error::io("create", &generations, &error))?;
    sync_path(path)?;
    // Every directory above may be new too; syncing those that are not costs nothing worth naming. One
    // that may not be read was not made by us.
    let full = fs::canonicalize(path).map_err(|error| Error::io("read", path, &error))?;
    for above in full.ancestors().skip(1).take(3) {
        match fs::File::open(above).and_then(|dir| dir.sync_all()) {
            Err(error) if error.kind() != ErrorKind::PermissionDenied => return Err(Error::io("sync", above, &error)),
            _ => {}
        }
    }
    Ok(())
}

fn open_head(path: &Path, notes: &mut Vec<String>) -> Result<(Head, HeadState), Error> {
    let file = path.join("HEAD");
    if file.exists() {
        let (head, state, torn) = Head::open(&file)?;
        if torn {
            notes.push(format!("{}: one of two slots could not be read; the other was used", file.display()));
        }
        return Ok((head, state));
    }
    let generations = path.join("generations");
    let mut entries = fs::read_dir(&generations).map_err(|error| Error::io("read", &generations, &error))?;
    if entries.next().is_some() || keys_dir(path).exists() {
        return Err(Error::damaged(&file, "it is missing, though data of a journal is there"));
    }
    let state = HeadState { journal: Uuid::now_v7(), oldest: 1, generation: 1, commit: 0 };
    Ok((Head::create(&file, &state)?, state))
}

/// Removes what retention had given up when the process ended.
fn remove_given_up(path: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(path).map_err(|error| Error::io("read", path, &error))?;
    let given_up = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(REMOVED_PREFIX);
    entries.filter_map(Result::ok).filter(given_up).for_each(|entry| remove(&entry.path()));
    Ok(())
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

/// Takes the generation behind the one that HEAD names: its making was cut off before HEAD was written,
/// so it has at most its first commit. What cannot be read of it was never acknowledged.
fn adopt_next(options: &Options, state: &mut HeadState, notes: &mut Vec<String>) -> Result<(), Error> {
    let next = HeadState { generation: state.generation + 1, ..*state };
    let dir = generation_dir(&options.path, next.generation);
    if !dir.exists() {
        return Ok(());
    }
    let journal = pack::journal_mark(next.journal);
    let read = with_repair(&dir, options.sync, notes, |store| {
        let mut fold = Fold::new(Inbox::new(options.inbox_window, options.inbox_max));
        let folded = fold.generation(store, next.generation, journal)?;
        check_start(store, &folded, &next)
    });
    match read {
        Ok(_) => *state = next,
        Err(_) => set_aside(&options.path, next.generation, notes)?,
    }
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
    if folded.last_commit < state.commit && !planted::is("lost_tail_is_not_missed") {
        let path = store.dir().to_owned();
        return Err(Error::BehindHead { path, found: folded.last_commit, head: state.commit });
    }
    Ok(())
}

/// Opens the indexes of sealed generations and the keys; makes again what is missing of an index.
fn open_sealed(
    options: &Options,
    numbers: std::ops::RangeInclusive<u64>,
    now: Timestamp,
    notes: &mut Vec<String>,
) -> Result<(Vec<Arc<Sealed>>, Keys), Error> {
    let keys_dir = keys_dir(&options.path);
    let is_sealed = |number| generation_dir(&options.path, number).join("ends.pages").exists();
    let keys_needed = *numbers.start() > 1 || numbers.clone().any(is_sealed);
    let mut keys = Keys::open(&keys_dir, keys_needed)?;
    let mut sealed = Vec::new();
    for number in numbers {
        let dir = generation_dir(&options.path, number);
        let opened = match Sealed::open(&dir, number) {
            Ok(opened) => opened,
            Err(error) => {
                let (store, (index, at)) = with_repair(&dir, options.sync, notes, index_of)?;
                drop(store);
                let bounds = Bounds { keep: options.keys_keep, max: options.keys_max };
                keys = keys.with(&keys_dir, number, index.tombstones.values().copied(), bounds, now)?;
                notes.push(format!("{}: its index was made again from its records ({error})", dir.display()));
                Sealed::write(&dir, number, at, &index)?
            }
        };
        sealed.push(Arc::new(opened));
    }
    Ok((sealed, keys))
}
