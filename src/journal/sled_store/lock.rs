//! One process per data directory: an exclusively locked file that holds the owner's process id.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::journal::Error;

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

impl Drop for DirectoryLock {
    /// Lets go at once. Closing alone would wait for a child process that was just being made: it holds every open
    /// file until it runs its own program.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl DirectoryLock {
    /// Takes the lock of a data directory.
    ///
    /// # Errors
    /// [`Error::Locked`] with the holder's process id.
    pub fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let io = |action, error: &std::io::Error| Error::io(action, &path, error);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(|error| io("open", &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // An unreadable file still means that somebody holds it.
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim();
                let holder = if holder.is_empty() { "(unknown)" } else { holder }.to_owned();
                return Err(Error::Locked { path: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(io("lock", &error)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
        written.map_err(|error| io("write", &error))?;
        Ok(Self { file })
    }
}

/// True while a process holds a data directory.
///
/// # Errors
/// [`Error::Io`] when the lock cannot be looked at.
pub fn is_in_use(dir: &Path) -> Result<bool, Error> {
    if !dir.join("lock").exists() {
        return Ok(false);
    }
    match DirectoryLock::take(dir) {
        Ok(_) => Ok(false),
        Err(Error::Locked { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(dir.path()).unwrap();
        match DirectoryLock::take(dir.path()) {
            Err(Error::Locked { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
        drop(first);
        DirectoryLock::take(dir.path()).unwrap();
    }

    #[test]
    fn it_lets_go_though_a_copy_of_the_file_is_still_open() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(dir.path()).unwrap();
        let _in_a_child = first.file.try_clone().unwrap();
        drop(first);
        DirectoryLock::take(dir.path()).unwrap();
    }
}
