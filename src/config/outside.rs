//! What a configuration asks of its surroundings: environment variables and files. A trait, so that
//! tests bring their own.

use std::io::{self, Read};
use std::path::Path;

/// A configuration of some 100 lines has 10 KiB; a secret is a token or a certificate.
pub(super) const FILE_BYTES_MAX: u64 = 1024 * 1024;

pub(super) trait Outside {
    fn variable(&self, name: &str) -> Option<String>;
    fn file(&self, path: &Path) -> io::Result<String>;
    fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.file(path).map(String::into_bytes)
    }
}

/// The process's own.
pub(super) struct System;

impl Outside for System {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(self.bytes(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        Ok(bytes)
    }
}

/// Nothing: what the embedded reference is read with for [`super::Config::default`].
pub(super) struct Nothing;

impl Outside for Nothing {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn file(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}
