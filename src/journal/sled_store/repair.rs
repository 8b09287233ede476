//! Opens a store whatever sled left of it: half-written snapshots go, and where a store cannot be read
//! its snapshots and settings, which sled can do without, are moved aside and it is read once more.

use std::path::Path;

use super::store::{Store, Sync, check_files, move_aside, remove_half_snapshots};
use crate::journal::Error;

/// Opens a store and reads it; where either fails, once more without what sled can make again. Nothing
/// counts as read until `read` has checked it all.
///
/// # Errors
/// The error of the first reading, which is the one that says what happened.
pub fn with_repair<T>(
    dir: &Path,
    sync: Sync,
    notes: &mut Vec<String>,
    mut read: impl FnMut(&Store) -> Result<T, Error>,
) -> Result<(Store, T), Error> {
    check_files(dir)?;
    for name in remove_half_snapshots(dir)? {
        notes.push(format!("{}: removed {name}, a snapshot whose writing had been cut off", dir.display()));
    }
    let mut attempt = || -> Result<(Store, T), Error> {
        let store = Store::open(dir, sync)?;
        let value = read(&store)?;
        Ok((store, value))
    };
    let error = match attempt() {
        Ok((store, value)) => {
            check_files(dir)?;
            return Ok((store, value));
        }
        Err(Error::Refused { path, reason }) => return Err(Error::Refused { path, reason }),
        Err(error) => error,
    };
    let moved = move_aside(dir)?;
    if moved.is_empty() {
        return Err(error);
    }
    let (store, value) = attempt().map_err(|_| error.clone())?;
    check_files(dir)?;
    store.sync_names()?;
    notes.push(format!(
        "{}: {error}; moved {} aside, read all of it again, and every checksum is right",
        dir.display(),
        moved.join(", ")
    ));
    Ok((store, value))
}
